# Three microVMs by raw_exec: `nomad job run mayfly.nomad.hcl`.
job "microvms" {
  type = "batch"

  group "vm" {
    count = 3

    task "vm" {
      driver = "raw_exec"

      config {
        command = "/usr/bin/mayfly"
        args = [
          "run", "--name", "nomad-${NOMAD_ALLOC_ID}", "-r", "/srv/mayfly/debian.erofs", "-c", "1", "-m", "512M",
          "--result", "${NOMAD_TASK_DIR}/result.json", "-e", "NOMAD_ALLOC_INDEX",
          "--", "/bin/sh", "-c", "echo microVM $NOMAD_ALLOC_INDEX"
        ]
      }

      # SIGINT, which Nomad sends otherwise, would be the command's.
      kill_signal  = "SIGTERM"
      kill_timeout = "15s"

      # For the scheduler: raw_exec sets no limit. "--jail=memory-max=576M" in args does.
      resources {
        cpu    = 500
        memory = 576
      }
    }
  }
}
