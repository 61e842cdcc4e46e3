//! A remote Postgres: a container on the node's network, which pods and this machine reach by its address.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use super::test_cluster::TestCluster;
use xtask::engine::Engine;
use xtask::secrets::{Redactor, Secret};
use xtask::stages::database;

/// Name of the user and of the database.
const NAME: &str = "todo";
const PORT: u16 = 5432;
/// UID of the image's user.
const POSTGRES: u64 = 999;
/// Postgres' arguments for the files that [`Database::start_with_tls`] gives it.
const TLS: &[&str] = &["-c", "ssl=on", "-c", "ssl_cert_file=/server.crt", "-c", "ssl_key_file=/server.key"];

/// A running Postgres. Dropping it removes the container.
pub struct Database {
    engine: Engine,
    name: String,
    password: String,
    /// Its address on the node's network.
    pub address: IpAddr,
    /// This machine's address on that network.
    pub gateway: IpAddr,
}

impl Database {
    /// Starts a Postgres without TLS and waits until the backend's preflight passes.
    pub fn start(test_cluster: &TestCluster, password: &str) -> Result<Self> {
        Self::start_as(test_cluster, password, &[])
    }

    /// Starts a Postgres that offers TLS.
    pub fn start_with_tls(test_cluster: &TestCluster, password: &str) -> Result<Self> {
        // Any certificate will do, because `sslmode=require` does not verify the host name.
        let folder = test_cluster.tools()?.profile_config().with_file_name("");
        let read = |name: &str| std::fs::read(folder.join(name)).with_context(|| format!("reading {folder}{name}"));
        Self::start_as(
            test_cluster,
            password,
            &[("server.crt", read("client.crt")?), ("server.key", read("client.key")?)],
        )
    }

    fn start_as(test_cluster: &TestCluster, password: &str, tls: &[(&str, Vec<u8>)]) -> Result<Self> {
        let tools = test_cluster.tools()?;
        let engine = tools.engine.clone();
        let name = container(test_cluster);
        remove(&engine, &name)?;
        let image = test_cluster.origin_image(&test_cluster.project.settings.database.image)?;
        // A file, because `docker inspect` shows arguments and variables.
        let create = engine.docker().args(["create", "--name", &name, "--network", &test_cluster.profile]);
        create
            .args(["--env", "POSTGRES_PASSWORD_FILE=/password", "--env", &format!("POSTGRES_USER={NAME}")])
            .args(["--env", &format!("POSTGRES_DB={NAME}"), &image])
            .args(TLS.iter().filter(|_| !tls.is_empty()).copied())
            .run()?;
        let password_file = [("password", password.as_bytes().to_vec())];
        let archive = files(password_file.iter().chain(tls))?;
        engine.docker().args(["cp", "-", &format!("{name}:/")]).stdin(archive).run()?;
        engine.docker().args(["start", &name]).run()?;
        let inspected: Value = serde_json::from_str(&engine.docker().args(["inspect", &name]).read()?)?;
        let network = &inspected[0]["NetworkSettings"]["Networks"][test_cluster.profile.as_str()];
        let ip = |key: &str| network[key].as_str().unwrap_or_default().parse::<IpAddr>().context("an address");
        let this =
            Self { engine, name, password: password.to_owned(), address: ip("IPAddress")?, gateway: ip("Gateway")? };
        let backend = super::lifecycle::references(test_cluster)?.into_iter().find(|r| r.starts_with("todo-backend"));
        let url = Secret::new(this.url());
        let look = database::on_this_machine(
            &test_cluster.project.settings.application,
            &tools,
            &backend.context("a backend image")?,
            &url,
        );
        test_cluster.until("the database is up", Duration::from_secs(60), || {
            Ok(database::read(&look, &Redactor::new([&url])).is_ok_and(|finding| finding.ok))
        })?;
        Ok(this)
    }

    /// Returns its URL.
    pub fn url(&self) -> String {
        self.url_with(&self.password, &format!("{}:{PORT}", self.address), NAME, "disable")
    }

    /// Runs SQL as the user of [`Database::url`].
    pub fn run(&self, sql: &str) -> Result<()> {
        let psql = ["exec", "--interactive", &self.name, "psql", "--username", NAME, "--set", "ON_ERROR_STOP=1"];
        self.engine.docker().args(psql).stdin(sql).run()
    }

    /// Returns its URL with other parts.
    pub fn url_with(&self, password: &str, place: &str, database: &str, sslmode: &str) -> String {
        format!("postgresql://{NAME}:{password}@{place}/{database}?sslmode={sslmode}")
    }

    /// Starts a proxy that accepts connections at once and forwards them `delay` after the first one, as Neon's does for a
    /// suspended compute. Returns its `address:port` on this machine.
    pub fn asleep(&self, delay: Duration) -> Result<String> {
        let listener = TcpListener::bind((self.gateway, 0)).context("listening beside the cluster")?;
        let place = listener.local_addr()?.to_string();
        let to = SocketAddr::new(self.address, PORT);
        let awake = Arc::new(OnceLock::new());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let awake = awake.clone();
                std::thread::spawn(move || forward(&client, to, || *awake.get_or_init(|| Instant::now() + delay)));
            }
        });
        Ok(place)
    }

    /// Starts a server that refuses each client with `message`. Returns its `address:port` on this machine.
    pub fn refusing(&self, message: &'static str) -> Result<String> {
        let listener = TcpListener::bind((self.gateway, 0)).context("listening beside the cluster")?;
        let place = listener.local_addr()?.to_string();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || refuse(client, message));
            }
        });
        Ok(place)
    }
}

/// Returns the name of its container.
fn container(test_cluster: &TestCluster) -> String {
    format!("{}-database", test_cluster.profile)
}

fn remove(engine: &Engine, container: &str) -> Result<()> {
    engine.docker().args(["rm", "--force", "--volumes", container]).run()
}

/// Removes the container of a killed run, because a teardown of the cluster refuses while it runs. Without an engine it does not
/// run. If the removal fails, the teardown names the container.
pub fn remove_left(test_cluster: &TestCluster) {
    let _ = test_cluster.tools().and_then(|tools| remove(&tools.engine, &container(test_cluster)));
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = remove(&self.engine, &self.name);
    }
}

/// Reads the client's first message and answers it with an error, in Postgres' protocol 3.
fn refuse(mut client: TcpStream, message: &str) -> std::io::Result<()> {
    let mut length = [0; 4];
    client.read_exact(&mut length)?;
    let mut rest = vec![0; (u32::from_be_bytes(length) as usize).saturating_sub(4).min(10_000)];
    client.read_exact(&mut rest)?;
    let fields = format!("SFATAL\0VFATAL\0CXX000\0M{message}\0\0");
    let length = u32::try_from(fields.len() + 4).unwrap_or_default().to_be_bytes();
    client.write_all(&[b"E", &length[..], fields.as_bytes()].concat())
}

fn forward(client: &TcpStream, to: SocketAddr, awake: impl Fn() -> Instant) -> std::io::Result<()> {
    // A port probe sends no data and must not wake the database.
    if client.peek(&mut [0])? == 0 {
        return Ok(());
    }
    std::thread::sleep(awake().saturating_duration_since(Instant::now()));
    let server = TcpStream::connect(to)?;
    let (from, back) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || pump(from, back));
    pump(server, client.try_clone()?);
    Ok(())
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16384];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

/// Returns a tar archive whose files only Postgres' user may read, as Postgres requires for keys.
fn files<'a>(files: impl Iterator<Item = &'a (&'a str, Vec<u8>)>) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o400);
        header.set_uid(POSTGRES);
        header.set_gid(POSTGRES);
        header.set_cksum();
        archive.append_data(&mut header, name, content.as_slice())?;
    }
    Ok(archive.into_inner()?)
}
