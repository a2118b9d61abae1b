# A microVM by the Firecracker driver: mayfly speaks Firecracker's API. The guest boots the init of its own image.
job "firecracker" {
  type = "service"

  group "vm" {
    task "vm" {
      driver = "firecracker-task-driver"

      config {
        Firecracker = "/usr/bin/mayfly"
        KernelImage = "/usr/share/mayfly/vmlinux"
        BootDisk    = "/srv/mayfly/service.ext4"
        Vcpus       = 1
        Mem         = 512
      }

      resources {
        cpu    = 500
        memory = 576
      }
    }
  }
}
