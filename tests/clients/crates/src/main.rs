//! Drives mayfly by Rust crates for Firecracker, as they are: a flat guest, paused, resumed, and a snapshot, which is loaded.
//! Arguments: MONITOR GUEST DIRECTORY, absolute paths.
use std::num::NonZeroU64;
use std::path::PathBuf;

fn args() -> (String, String, String) {
    let a: Vec<String> = std::env::args().collect();
    (a[1].clone(), a[2].clone(), a[3].clone())
}

/// fc-sdk: generated from the specification, so it checks each field of each answer.
async fn fc_sdk() {
    use fc_sdk::{process::FirecrackerProcessBuilder, types::*};
    let (monitor, guest, dir) = args();
    let sock = format!("{dir}/fc");
    let mut process = FirecrackerProcessBuilder::new(&monitor, &sock)
        .id("rs-1")
        .no_seccomp(true)
        .spawn()
        .await
        .unwrap();
    let vm = process
        .vm_builder()
        .boot_source(BootSource {
            kernel_image_path: guest.clone(),
            boot_args: Some("console=ttyS0".into()),
            initrd_path: None,
        })
        .machine_config(MachineConfiguration {
            vcpu_count: NonZeroU64::new(1).unwrap(),
            mem_size_mib: 64,
            smt: false,
            track_dirty_pages: false,
            cpu_template: None,
            huge_pages: None,
        })
        .start()
        .await
        .unwrap();
    assert_eq!(
        vm.describe().await.unwrap().state,
        InstanceInfoState::Running
    );
    assert!(!vm.version().await.unwrap().firecracker_version.is_empty());
    assert_eq!(
        vm.config()
            .await
            .unwrap()
            .boot_source
            .unwrap()
            .kernel_image_path,
        guest
    );
    assert_eq!(vm.machine_configuration().await.unwrap().mem_size_mib, 64);
    vm.pause().await.unwrap();
    vm.create_snapshot(&format!("{dir}/s"), &format!("{dir}/m"))
        .await
        .unwrap();
    vm.create_diff_snapshot(&format!("{dir}/s2"), &format!("{dir}/m2"))
        .await
        .unwrap();
    vm.resume().await.unwrap();
    vm.flush_metrics().await.unwrap();
    assert!(vm.get_mmds().await.is_err());
    assert!(vm
        .balloon_config()
        .await
        .unwrap_err()
        .to_string()
        .contains("fault_message"));
    process.kill().await.unwrap();
    let mut process = FirecrackerProcessBuilder::new(&monitor, format!("{dir}/fc2"))
        .spawn()
        .await
        .unwrap();
    let vm = fc_sdk::restore(format!("{dir}/fc2"), serde_json::from_value(serde_json::json!({
        "snapshot_path": format!("{dir}/s"), "mem_backend": {"backend_type": "File", "backend_path": format!("{dir}/m")},
        "resume_vm": true, "network_overrides": []})).unwrap()).await.unwrap();
    assert_eq!(
        vm.describe().await.unwrap().state,
        InstanceInfoState::Running
    );
    process.shutdown().await.unwrap();
    println!("ok - fc-sdk");
}

async fn firepilot_play() {
    use firepilot::builder::{
        drive::DriveBuilder, executor::FirecrackerExecutorBuilder, kernel::KernelBuilder, Builder,
        Configuration,
    };
    use firepilot::machine::Machine;
    let (monitor, guest, dir) = args();
    let disk = PathBuf::from(format!("{dir}/disk"));
    std::fs::write(&disk, vec![0; 1 << 20]).unwrap();
    let config = Configuration::new("simple_vm".to_string())
        .with_kernel(
            KernelBuilder::new()
                .with_kernel_image_path(guest)
                .with_boot_args("reboot=k panic=1 pci=off".to_string())
                .try_build()
                .unwrap(),
        )
        .with_executor(
            FirecrackerExecutorBuilder::new()
                .with_chroot(format!("{dir}/pilot"))
                .with_exec_binary(PathBuf::from(monitor))
                .try_build()
                .unwrap(),
        )
        .with_drive(
            DriveBuilder::new()
                .with_drive_id("rootfs".to_string())
                .with_path_on_host(disk)
                .as_read_only()
                .as_root_device()
                .try_build()
                .unwrap(),
        );
    let mut machine = Machine::new();
    machine.create(config).await.unwrap();
    machine.start().await.unwrap();
    machine.pause().await.unwrap();
    machine.resume().await.unwrap();
    machine.stop().await.unwrap();
    machine.kill().await.unwrap();
    println!("ok - firepilot");
}

fn rs_sdk() {
    use firecracker_rs_sdk::firecracker::FirecrackerOption;
    use firecracker_rs_sdk::models::*;
    let (monitor, guest, dir) = args();
    let mut vm = FirecrackerOption::new(monitor)
        .api_sock(format!("{dir}/rs"))
        .id("test-instance")
        .build()
        .unwrap();
    vm.start_vmm().unwrap();
    vm.get_firecracker_version().unwrap(); // HTTP/1.0, on a connection that it keeps
    vm.put_machine_configuration(&MachineConfiguration {
        cpu_template: None,
        smt: None,
        mem_size_mib: 64,
        track_dirty_pages: None,
        vcpu_count: 1,
        huge_pages: None,
    })
    .unwrap();
    vm.put_guest_boot_source(&BootSource {
        boot_args: Some("console=ttyS0".into()),
        initrd_path: None,
        kernel_image_path: guest.into(),
    })
    .unwrap();
    vm.put_guest_drive_by_id(&Drive {
        drive_id: "rootfs".into(),
        partuuid: None,
        is_root_device: true,
        cache_type: None,
        is_read_only: false,
        path_on_host: format!("{dir}/disk").into(),
        rate_limiter: None,
        io_engine: None,
        socket: None,
    })
    .unwrap();
    assert_eq!(vm.get_machine_configuration().unwrap().mem_size_mib, 64);
    vm.start().unwrap();
    vm.pause().unwrap();
    assert_eq!(vm.describe_instance().unwrap().id, "test-instance");
    vm.get_export_vm_config().unwrap();
    vm.resume().unwrap();
    vm.stop().unwrap();
    println!("ok - firecracker-rs-sdk");
}

#[tokio::main]
async fn main() {
    firepilot_play().await;
    tokio::task::spawn_blocking(rs_sdk).await.unwrap();
    fc_sdk().await;
}
