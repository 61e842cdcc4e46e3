//! Lets every external call of xtask fail once, and compares what xtask then says and does with the truth.
#![expect(missing_docs, reason = "draft")]
mod calls;
mod client;
mod control;
mod etcd;
mod ingress;
mod machine;
mod names;
mod pki;
mod player;
mod proxy;
mod servers;
mod world;

fn main() -> anyhow::Result<()> {
    let arg0 = std::env::args().next().unwrap_or_default();
    let name = arg0.rsplit('/').next().unwrap_or_default().to_owned();
    if name != "xtask-faults" {
        std::process::exit(client::play(&name)?);
    }
    let home = std::env::var("HOME")?;
    let temp = camino::Utf8PathBuf::from("/tmp/faults-try");
    let _ = std::fs::remove_dir_all(&temp);
    std::fs::create_dir_all(&temp)?;
    let go = format!("{home}/.cache/todo-xtask/packages/go");
    std::os::unix::fs::symlink(format!("{go}/b2738c7713e958be/kube"), temp.join("kube-apiserver"))?;
    let programs = servers::Programs { etcd: format!("{go}/e35c9d58211bdb5a/etcd").into(), apiserver: temp.join("kube-apiserver"), helm: format!("{go}/ad3e79fd4b4b2d7a/helm").into() };
    let t = std::time::Instant::now();
    let own = camino::Utf8PathBuf::try_from(std::env::current_exe()?)?;
    let world = world::World::new(&temp.join("w"), &own.with_file_name("xtask-under-test"), &programs, "/tmp/wt/faults".into())?;
    eprintln!("started {:?}", t.elapsed());
    let show = |name: &str, o: &world::Outcome, t: std::time::Instant| {
        eprintln!("=== {name} {:?} exit {:?} struck {} calls {} unknown {:?} served {:?} done {:?}", t.elapsed(), o.code, o.struck, o.calls.len(), o.unknown, o.served, o.after.machine.done);
        eprintln!("{}", o.text);
        let mut names: std::collections::BTreeMap<&str, usize> = Default::default();
        for c in &o.calls { *names.entry(&c.name).or_default() += 1; }
        for (n, c) in names { eprintln!("   {c:3} {n}"); }
    };
    for (name, args, edit, saved) in [("first", &["deploy", "dev"][..], None, None), ("noop", &["deploy", "dev"], None, None), ("status", &["status"], None, None), ("changed", &["deploy", "dev"], Some("changed"), None), ("rollback", &["rollback"], None, None), ("failing", &["deploy", "dev"], Some("this image crashes"), None), ("watch", &["deploy", "dev", "--watch"], Some("good"), Some("other")), ("teardown", &["teardown"], None, None)] {
        if let Some(edit) = edit { world.edit(edit)?; }
        let t = std::time::Instant::now();
        let o = world.run(args, None, saved)?;
        show(name, &o, t);
        let t = std::time::Instant::now();
        let s = world.state()?;
        let a = t.elapsed();
        world.restore(&s)?;
        eprintln!("   state {a:?} restore {:?}", t.elapsed() - a);
    }
    Ok(())
}
