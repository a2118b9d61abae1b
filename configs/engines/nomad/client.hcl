# Of the configuration of Nomad's clients: both ways to start microVMs.
plugin "raw_exec" {
  config {
    enabled = true
  }
}

# The community's driver, in Nomad's plugin_dir.
plugin "firecracker-task-driver" {}
