//! Deploys that xtask refuses, with the reason, before it changes anything.

use anyhow::{Context, Result, ensure};

use super::test_cluster::{AUTH, TestCluster};

pub fn dotenv(test_cluster: &TestCluster) -> Result<()> {
    let cases: &[(&str, &[&str])] = &[
        ("AUTH_SECRET\n", &[".env:1"]),
        ("AUTH_SECRET=not$a$secret-not-a-secret-not-a-secret\n", &[".env:1", "$"]),
        ("OPENAI_API_KEY=not-a-secret\n", &["AUTH_SECRET"]),
        ("AUTH_SECRET=\n", &["AUTH_SECRET"]),
        ("AUTH_SECRET=changeme\n", &["AUTH_SECRET"]),
        ("AUTH_SECRT=not-a-secret\n", &["AUTH_SECRT", "AUTH_SECRET"]),
    ];
    for (text, expected) in cases {
        test_cluster.write_dotenv(text)?;
        let ran = test_cluster.xtask(&["deploy", "dev"])?.expect(3, expected)?;
        ensure!(!ran.text.contains("not$a$secret"), "a value is shown: {}", ran.text);
    }
    test_cluster.write_dotenv(&format!("AUTH_SECRET={AUTH}\n"))?;
    std::process::Command::new("chmod").args(["644", test_cluster.root.join(".env").as_str()]).status()?;
    test_cluster.xtask(&["deploy", "dev"])?.expect(3, &["chmod 600"])?;
    std::fs::remove_file(test_cluster.root.join(".env")).context("removing .env")
}

pub fn settings(test_cluster: &TestCluster) -> Result<()> {
    test_cluster.xtask(&["deploy", "dve"])?.expect(3, &["known are: dev", &test_cluster.hint("deploy dev")])?;
    let path = test_cluster.root.join("infra/xtask.toml");
    let text = std::fs::read_to_string(&path)?;
    std::fs::write(&path, text.replace("release = \"todo\"", "releas = \"todo\""))?;
    let ran = test_cluster.xtask(&["deploy", "dev"]);
    std::fs::write(&path, text)?;
    ran?.expect(3, &["infra/xtask.toml:", "releas"])?;
    Ok(())
}

pub fn context(test_cluster: &TestCluster) -> Result<()> {
    test_cluster.write_dotenv(&format!("AUTH_SECRET={AUTH}\n"))?;
    let entry = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: {name}\n\
             clusters: [{{name: {name}, cluster: {{server: 'https://127.0.0.2:6443'}}}}]\n\
             users: [{{name: {name}, user: {{}}}}]\n\
             contexts: [{{name: {name}, context: {{cluster: {name}, user: {name}}}}}]\n"
        )
    };
    std::fs::write(&test_cluster.kubeconfig, entry(&test_cluster.profile))?;
    test_cluster.xtask(&["deploy", "dev"])?.expect(5, &["is not our minikube profile", "delete-context"])?;
    ensure!(
        std::fs::read_to_string(&test_cluster.kubeconfig)? == entry(&test_cluster.profile),
        "the kubeconfig was changed"
    );
    // The deploys that follow must keep this foreign current context.
    std::fs::write(&test_cluster.kubeconfig, entry("foreign"))?;
    Ok(())
}

/// Fails unless the foreign context is still the current one.
pub fn foreign_is_current(test_cluster: &TestCluster) -> Result<()> {
    let current = test_cluster.tools()?.kubectl_config().arg("current-context").read()?;
    ensure!(current.trim() == "foreign", "the current context is now {current}");
    Ok(())
}
