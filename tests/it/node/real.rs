//! The machine that the tests run on, by the sampler and by other tools.

use super::*;

/// The machine that the tests run on: what the frame says against independent sources.
#[test]
fn this_node_is_sampled_as_other_tools_see_it() {
    let cells = Cells::new();
    let mut sampler = Sampler::new(&Paths::default(), &cells);
    let mut frame = Frame::default();
    sampler.sample(real_now(), &mut frame);
    let began = std::time::Instant::now();
    std::thread::sleep(Duration::from_secs(1));
    let before = fs::read_to_string("/proc/uptime").unwrap();
    sampler.sample(real_now(), &mut frame);

    for series in ["node.cpu.busy", "node.cpu.steal", "node.cpu.iowait", "node.memory.available"] {
        let share = number(&frame, series, None);
        assert!((0.0..=1.0).contains(&share), "{series} is {share}");
    }
    let output = |program: &str, args: &[&str]| {
        let output = std::process::Command::new(program).args(args).output().unwrap();
        assert!(output.status.success(), "{program} failed");
        String::from_utf8(output.stdout).unwrap()
    };
    let cpus: f64 = output("nproc", &["--all"]).trim().parse().unwrap();
    assert_eq!(exported(&frame, "greenlight_node_cpus", &[]), cpus);
    let total: f64 = output("free", &["-b"])
        .lines()
        .nth(1)
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(exported(&frame, "greenlight_node_memory_bytes", &["total"]), total);
    let uptime: f64 = before.split(' ').next().unwrap().parse().unwrap();
    let boot = exported(&frame, "greenlight_node_boot_timestamp_seconds", &[]);
    let now = real_now().wall.seconds();
    assert!((now - boot - uptime).abs() < 5.0, "booted {boot}, up {uptime}, now {now}");

    // df rounds up, and others write meanwhile: a thousandth.
    let df = output("df", &["-B1", "--output=size,avail", "/"]);
    let [size, available] = df.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>()[..]
    else {
        panic!("df says {df}")
    };
    let (size, available): (f64, f64) = (size.parse().unwrap(), available.parse().unwrap());
    let ratio = number(&frame, "node.fs.available", Some("/"));
    assert!((ratio - available / size).abs() < 1e-3, "{ratio}, df says {df}");
    assert_eq!(number(&frame, "node.fs.readonly", Some("/")), 0.0);

    // PSI is either there, and then a share, or unsupported; never a silent zero.
    for (file, series) in [
        ("cpu", "node.psi.cpu.some"),
        ("memory", "node.psi.memory.full"),
        ("io", "node.psi.io.some"),
    ] {
        let there = fs::read(format!("/proc/pressure/{file}")).is_ok();
        match frame.find(series, None) {
            Some(Signal::Number(share)) => assert!(there && (0.0..=1.0).contains(&share)),
            Some(Signal::Absent(fault)) => {
                assert!(!there, "{fault}");
                assert_eq!(fault.code.word(), "unsupported");
            }
            other => panic!("{series} is {other:?}"),
        }
    }
    let facts = node::facts(&Paths::default());
    assert_eq!(facts["kernel"], output("uname", &["-r"]).trim());
    assert_eq!(facts["psi"], fs::read("/proc/pressure/cpu").is_ok().to_string());

    // Every disk that is shown agrees with its own file in sysfs.
    let mut disks = 0;
    for (def, signal) in frame.iter() {
        let requests = def.metric.name == "greenlight_node_disk_requests_total";
        if !requests || &*def.labels[1] != "read" {
            continue;
        }
        let Signal::Number(reads) = signal else { panic!("{def:?} is {signal:?}") };
        let file = PathBuf::from("/sys/block").join(&*def.labels[0]).join("stat");
        let text = fs::read_to_string(file).unwrap();
        let after: f64 = text.split_whitespace().next().unwrap().parse().unwrap();
        assert!(reads <= after && after - reads < 1e6, "{def:?}: {reads}, then {after}");
        disks += 1;
    }
    assert!(disks > 0 || fs::read_dir("/sys/block").unwrap().next().is_none());
    assert!(began.elapsed() < Duration::from_secs(60));
}
