//! A server behind a network that can be severed, so that packets vanish in both directions without an error,
//! and healed, so that data sent in the meantime arrives late.
//!
//! The server runs in a network namespace of its own, connected by a pair of virtual interfaces. If that is
//! not allowed, a proxy in front of the server holds back the data. `MILLPOND_TEST_PARTITIONS=1` requires the
//! namespace, `0` forces the proxy.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::proxy::{Mode, Proxy};
use super::raw_client::RawClient;
use super::redis_server::RedisServer;
use super::{server_program, wait_until};

const PORT: u16 = 6379;

/// How long the server may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(30);

/// How long after healing the proxy delivers the held data, like a sender that repeats it.
const AGAIN: Duration = Duration::from_millis(300);

pub(crate) struct Partition {
    wire: Wire,
    dir: TempDir,
}

enum Wire {
    Network(Network),
    Proxy { _server: RedisServer, proxy: Arc<Proxy> },
}

impl Partition {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let socket = socket(&dir);
        let asked = std::env::var("MILLPOND_TEST_PARTITIONS").ok();
        let network = match asked.as_deref() {
            Some("0") => Err("it is disabled".to_owned()),
            _ => Network::start(&dir),
        };
        let wire = match network {
            Ok(network) => {
                println!("the network is the namespace {} at {}", network.namespace, network.address);
                Wire::Network(network)
            }
            Err(cause) => {
                assert_ne!(asked.as_deref(), Some("1"), "no network namespace: {cause}");
                println!("the network is a proxy, there is no namespace: {cause}");
                let server = RedisServer::start_with(&["--unixsocket", &socket.to_string_lossy()]);
                let proxy = Arc::new(Proxy::to(server.port()));
                Wire::Proxy { _server: server, proxy }
            }
        };
        Self { wire, dir }
    }

    /// The URL of the server at the other side of the network.
    pub(crate) fn url(&self) -> String {
        match &self.wire {
            Wire::Network(network) => format!("redis://{}", network.address),
            Wire::Proxy { proxy, .. } => proxy.url(),
        }
    }

    /// A client on another path, which is never severed.
    pub(crate) fn raw(&self) -> RawClient {
        RawClient::connect(&format!("redis+unix://{}", socket(&self.dir).display()))
    }

    /// From now on nothing arrives, and neither side gets an error.
    pub(crate) fn sever(&self) {
        match &self.wire {
            Wire::Network(network) => network.sever().expect("a network that can be severed"),
            Wire::Proxy { proxy, .. } => proxy.set(Mode::Hold),
        }
    }

    /// From now on data arrives, including data that was sent in the meantime and not given up.
    pub(crate) fn heal(&self) {
        match &self.wire {
            Wire::Network(network) => network.heal().expect("a network that can be healed"),
            Wire::Proxy { proxy, .. } => {
                // Packets that the network lost are sent again a while later.
                proxy.hold_old();
                proxy.set(Mode::Pass);
                let proxy = Arc::clone(proxy);
                thread::spawn(move || {
                    thread::sleep(AGAIN);
                    proxy.release_old();
                });
            }
        }
    }
}

fn socket(dir: &TempDir) -> PathBuf {
    dir.path().join("socket")
}

/// A server in a namespace of its own.
struct Network {
    namespace: String,
    outside: String,
    inside: String,
    address: SocketAddr,
    server: Option<Child>,
    /// Removes everything when its standard input ends, however this process ends.
    cleaner: Child,
}

impl Network {
    fn start(dir: &TempDir) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        const CLEAN: &str = r#"
            read -r _
            for pid in $(ip netns pids "$1"); do kill -9 "$pid"; done
            ip link del "$2"
            ip netns del "$1""#;
        let name = format!("mp{:x}n{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let (outside, inside) = (format!("{name}o"), format!("{name}i"));
        let cleaner = Command::new("sh")
            .args(["-c", CLEAN, "sh", &name, &outside])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        let (near, far) = addresses()?;
        let address = SocketAddr::from((far, PORT));
        let mut network = Self { namespace: name, outside, inside, address, server: None, cleaner };
        network.connect(near, far)?;
        network.launch(dir)?;
        network.try_out()?;
        Ok(network)
    }

    /// Creates the namespace and the interfaces that connect it.
    fn connect(&self, near: Ipv4Addr, far: Ipv4Addr) -> Result<(), String> {
        let Self { namespace, outside, inside, .. } = self;
        let [high, low] = [near.octets()[2], near.octets()[3]].map(|byte| format!("{byte:02x}"));
        let (near_mac, far_mac) = (format!("02:00:{high}:{low}:00:01"), format!("02:00:{high}:{low}:00:02"));
        run(&format!("ip netns add {namespace}"))?;
        run(&format!(
            "ip link add {outside} address {near_mac} type veth peer name {inside} address {far_mac} netns \
             {namespace}"
        ))?;
        run(&format!("ip addr add {near}/30 dev {outside}"))?;
        run(&format!("ip link set {outside} up"))?;
        run(&format!("ip -n {namespace} addr add {far}/30 dev {inside}"))?;
        run(&format!("ip -n {namespace} link set {inside} up"))?;
        run(&format!("ip -n {namespace} link set lo up"))?;
        // Without these entries, a host that looks for its peer in vain would get an error.
        run(&format!("ip neigh replace {far} lladdr {far_mac} dev {outside} nud permanent"))?;
        run(&format!("ip -n {namespace} neigh replace {near} lladdr {near_mac} dev {inside} nud permanent"))
    }

    fn launch(&mut self, dir: &TempDir) -> Result<(), String> {
        let socket = socket(dir);
        let server = Command::new("ip")
            .args(["netns", "exec", &self.namespace])
            .arg(server_program::program())
            .args([
                "--bind",
                "0.0.0.0",
                "--protected-mode",
                "no",
                "--port",
                &PORT.to_string(),
                "--save",
                "",
                "--dir",
            ])
            .arg(dir.path())
            .arg("--unixsocket")
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.server = Some(server.map_err(|error| error.to_string())?);
        wait_until("the server in the namespace listens", START_LIMIT, || {
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        });
        Ok(())
    }

    /// Severs and heals the network, and checks that this has the right effect.
    fn try_out(&self) -> Result<(), String> {
        let connect = |limit| TcpStream::connect_timeout(&self.address, limit);
        connect(START_LIMIT).map_err(|error| error.to_string())?;
        self.sever()?;
        match connect(Duration::from_millis(20)) {
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {}
            other => return Err(format!("a severed network returned {other:?}")),
        }
        self.heal()?;
        connect(START_LIMIT).map(drop).map_err(|error| error.to_string())
    }

    fn sever(&self) -> Result<(), String> {
        run(&format!("tc qdisc replace dev {} root blackhole", self.outside))?;
        run(&format!("tc -n {} qdisc replace dev {} root blackhole", self.namespace, self.inside))
    }

    fn heal(&self) -> Result<(), String> {
        run(&format!("tc -n {} qdisc del dev {} root", self.namespace, self.inside))?;
        run(&format!("tc qdisc del dev {} root", self.outside))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(self.cleaner.stdin.take());
        let _ = self.cleaner.wait();
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// Two addresses of a network that this machine does not use.
fn addresses() -> Result<(Ipv4Addr, Ipv4Addr), String> {
    let used = output("ip -4 route show table all")?;
    for _ in 0..100 {
        let [a, b, c] = [fastrand::u8(64..128), fastrand::u8(..), fastrand::u8(..64) * 4];
        if !used.contains(&format!("10.{a}.{b}.")) {
            return Ok((Ipv4Addr::new(10, a, b, c + 1), Ipv4Addr::new(10, a, b, c + 2)));
        }
    }
    Err("no free network".to_owned())
}

fn run(command: &str) -> Result<(), String> {
    output(command).map(drop)
}

/// The output of a command, or why it failed.
fn output(command: &str) -> Result<String, String> {
    let mut words = command.split_whitespace();
    let outcome = Command::new(words.next().unwrap_or_default()).args(words).stdin(Stdio::null()).output();
    let outcome = outcome.map_err(|error| format!("{command}: {error}"))?;
    if outcome.status.success() {
        Ok(String::from_utf8_lossy(&outcome.stdout).into_owned())
    } else {
        Err(format!("{command}: {}", String::from_utf8_lossy(&outcome.stderr).trim()))
    }
}
