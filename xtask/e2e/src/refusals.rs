//! What is refused, with the reason, before anything is touched.

use anyhow::{Context, Result, ensure};

use super::bed::{AUTH, Bed};

pub fn dotenv(bed: &Bed) -> Result<()> {
    let cases: &[(&str, &[&str])] = &[
        ("AUTH_SECRET\n", &[".env:1"]),
        ("AUTH_SECRET=not$a$secret-not-a-secret-not-a-secret\n", &[".env:1", "$"]),
        ("OPENAI_API_KEY=not-a-secret\n", &["AUTH_SECRET"]),
        ("AUTH_SECRET=\n", &["AUTH_SECRET"]),
        ("AUTH_SECRET=changeme\n", &["AUTH_SECRET"]),
        ("AUTH_SECRT=not-a-secret\n", &["AUTH_SECRT", "AUTH_SECRET"]),
    ];
    for (text, expected) in cases {
        bed.write_dotenv(text)?;
        let ran = bed.xtask(&["deploy", "dev"])?.expect(3, expected)?;
        ensure!(!ran.text.contains("not$a$secret"), "a value is shown: {}", ran.text);
    }
    bed.write_dotenv(&format!("AUTH_SECRET={AUTH}\n"))?;
    std::process::Command::new("chmod").args(["644", bed.root.join(".env").as_str()]).status()?;
    bed.xtask(&["deploy", "dev"])?.expect(3, &["chmod 600"])?;
    std::fs::remove_file(bed.root.join(".env")).context("removing .env")
}

pub fn settings(bed: &Bed) -> Result<()> {
    bed.xtask(&["deploy", "dve"])?.expect(3, &["there is: dev", &bed.hint("deploy dev")])?;
    let path = bed.root.join("infra/xtask.toml");
    let text = std::fs::read_to_string(&path)?;
    std::fs::write(&path, text.replace("release = \"todo\"", "releas = \"todo\""))?;
    let ran = bed.xtask(&["deploy", "dev"]);
    std::fs::write(&path, text)?;
    ran?.expect(3, &["infra/xtask.toml:", "releas"])?;
    Ok(())
}

pub fn context(bed: &Bed) -> Result<()> {
    bed.write_dotenv(&format!("AUTH_SECRET={AUTH}\n"))?;
    let entry = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: {name}\n\
             clusters: [{{name: {name}, cluster: {{server: 'https://127.0.0.2:6443'}}}}]\n\
             users: [{{name: {name}, user: {{}}}}]\n\
             contexts: [{{name: {name}, context: {{cluster: {name}, user: {name}}}}}]\n"
        )
    };
    std::fs::write(&bed.kubeconfig, entry(&bed.profile))?;
    bed.xtask(&["deploy", "dev"])?.expect(5, &["is not our minikube profile", "delete-context"])?;
    ensure!(std::fs::read_to_string(&bed.kubeconfig)? == entry(&bed.profile), "the kubeconfig was changed");
    // A foreign current context stays what it is; the deploys that follow are made beside it.
    std::fs::write(&bed.kubeconfig, entry("foreign"))?;
    Ok(())
}

/// The foreign current context is still the current one.
pub fn foreign_is_current(bed: &Bed) -> Result<()> {
    let current = bed.tools()?.kubectl_config().arg("current-context").read()?;
    ensure!(current.trim() == "foreign", "the current context is now {current}");
    Ok(())
}
