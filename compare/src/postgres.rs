//! PostgreSQL with its defaults, alone or waiting for a quorum of standbys, loaded by `pgbench`.
//!
//! `synchronous_commit` stays `on`: a commit is acknowledged when its record is on the server's disk, and with standbys
//! also on the disk of one of them, which makes two copies of three as souk's and etcd's majorities do.
//!
//! Not here: tuning. The only settings changed are those that the comparison needs to run at all.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::available_parallelism;
use std::time::Duration;

use rustix::process::{Signal, geteuid};

use crate::error::CompareError;
use crate::figure::Figure;
use crate::measure::{KEYS, Measure, Work};
use crate::process::{Server, free_ports, is_installed, output};

/// Where Debian keeps the server's programs, below a folder for each version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// The user of Debian's package; the server refuses to run as root.
const USER: &str = "postgres";
/// More clients than any measure has.
const CONNECTIONS_MAX: u32 = 300;
/// Rows before their quantity runs out, at any speed.
const QUANTITY: u64 = 1_000_000_000;

/// A running server, with its standbys.
#[derive(Debug)]
pub(crate) struct Postgres {
    port: u16,
    scripts: PathBuf,
    // The first ends first: standbys only after the primary has stopped sending.
    _servers: Vec<Server>,
}

/// Why PostgreSQL cannot be measured here; none when it can.
pub(crate) fn missing() -> Option<String> {
    let install = "install the packages postgresql and postgresql-contrib";
    if programs().is_none() {
        return Some(format!("there is no server below {DEBIAN}; {install}"));
    }
    (!is_installed("pgbench")).then(|| format!("there is no pgbench; {install}"))
}

/// The folder of the newest version's programs.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir(DEBIAN).ok()?.filter_map(Result::ok);
    versions
        .map(|version| version.path().join("bin"))
        .filter(|folder| folder.join("postgres").is_file())
        .max()
}

/// Who runs the servers: the package's user when we are root, otherwise we do.
#[derive(Debug, Clone, Copy)]
struct Owner(Option<(u32, u32)>);

impl Owner {
    fn find() -> Result<Self, CompareError> {
        if !geteuid().is_root() {
            return Ok(Self(None));
        }
        let number = |flag| {
            let said = output(Command::new("id").args([flag, USER]))?;
            said.trim().parse().map_err(|_| CompareError::Unreadable {
                program: "id".to_owned(),
                wanted: "the user of PostgreSQL",
                said,
            })
        };
        Ok(Self(Some((number("-u")?, number("-g")?))))
    }

    fn command(self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Self(Some((user, group))) = self {
            command.uid(user).gid(group);
        }
        command.current_dir("/");
        command
    }

    /// Makes an empty folder that only the owner may enter.
    fn folder(self, path: &Path) -> Result<(), CompareError> {
        let made = std::fs::create_dir_all(path).and_then(|()| match self {
            Self(Some((user, group))) => std::os::unix::fs::chown(path, Some(user), Some(group)),
            Self(None) => Ok(()),
        });
        made.map_err(|source| CompareError::File {
            path: path.to_owned(),
            source,
        })
    }
}

/// What starting one server needs.
struct Site<'a> {
    programs: &'a Path,
    owner: Owner,
    folder: PathBuf,
}

impl Site<'_> {
    fn program(&self, name: &str) -> Command {
        self.owner.command(&self.programs.join(name))
    }

    fn start(
        &self,
        data: &Path,
        name: &str,
        port: u16,
        settings: &[String],
    ) -> Result<Server, CompareError> {
        let mut command = self.program("postgres");
        command.arg("-D").arg(data);
        let socket = format!("unix_socket_directories={}", self.folder.display());
        let common = [
            format!("port={port}"),
            "listen_addresses=127.0.0.1".to_owned(),
            socket,
            format!("max_connections={CONNECTIONS_MAX}"),
            "fsync=on".to_owned(),
            "synchronous_commit=on".to_owned(),
        ];
        for setting in common.iter().chain(settings) {
            command.arg("-c").arg(setting);
        }
        let log = self.folder.with_extension(format!("{name}.log"));
        let mut server = Server::start(&mut command, log, Signal::INT)?;
        server.wait_until(|| {
            let mut ask = Command::new("pg_isready");
            output(ask.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()])).is_ok()
        })?;
        Ok(server)
    }
}

impl Postgres {
    /// Starts a server and so many standbys, of which it waits for any one.
    pub(crate) fn start(home: &Path, name: &str, standbys: u32) -> Result<Self, CompareError> {
        let programs = programs().ok_or(CompareError::Failed {
            program: "postgres".to_owned(),
            said: "it is not installed".to_owned(),
        })?;
        let site = Site {
            programs: &programs,
            owner: Owner::find()?,
            folder: home.join(name),
        };
        site.owner.folder(&site.folder)?;
        let [port, ports @ ..] = free_ports::<3>()?;
        let data = site.folder.join("primary");
        output(
            site.program("initdb")
                .args(["-A", "trust", "-U", USER, "-D"])
                .arg(&data),
        )?;
        let mut servers = vec![site.start(&data, "primary", port, &[])?];
        for (number, port_of_standby) in (1..=standbys).zip(ports) {
            let data = site.folder.join(format!("standby{number}"));
            let from = format!("host=127.0.0.1 port={port} user={USER} application_name=s{number}");
            output(
                site.program("pg_basebackup")
                    .args(["-R", "-c", "fast", "-d", &from, "-D"])
                    .arg(&data),
            )?;
            let name = format!("standby{number}");
            servers.push(site.start(&data, &name, port_of_standby, &[])?);
        }
        let postgres = Self {
            port,
            scripts: home.join(format!("{name}-scripts")),
            _servers: servers,
        };
        if standbys > 0 {
            let names: Vec<String> = (1..=standbys).map(|number| format!("s{number}")).collect();
            let wait_for = format!("ANY 1 ({})", names.join(", "));
            postgres.sql(&format!(
                "ALTER SYSTEM SET synchronous_standby_names = '{wait_for}'"
            ))?;
            postgres.sql("SELECT pg_reload_conf()")?;
        }
        postgres.load()?;
        Ok(postgres)
    }

    /// The rows, and the scripts that work on them.
    fn load(&self) -> Result<(), CompareError> {
        self.sql("CREATE TABLE stock (sku int PRIMARY KEY, qty bigint NOT NULL)")?;
        self.sql(&format!(
            "INSERT INTO stock SELECT sku, {QUANTITY} FROM generate_series(1, {KEYS}) AS sku"
        ))?;
        self.sql("VACUUM ANALYZE stock")?;
        let unusable = |source| CompareError::File {
            path: self.scripts.clone(),
            source,
        };
        std::fs::create_dir_all(&self.scripts).map_err(unusable)?;
        let take = |choose: String| {
            format!("{choose}UPDATE stock SET qty = qty - 1 WHERE sku = :sku AND qty >= 1;\n")
        };
        for (work, choose) in [
            (Work::UpdateHot, "\\set sku 1\n".to_owned()),
            (Work::UpdateSpread, format!("\\set sku random(1, {KEYS})\n")),
        ] {
            std::fs::write(self.script(work), take(choose)).map_err(unusable)?;
        }
        Ok(())
    }

    fn script(&self, work: Work) -> PathBuf {
        self.scripts.join(work.name())
    }

    fn sql(&self, statement: &str) -> Result<String, CompareError> {
        let mut command = Command::new("psql");
        command.args(["-q", "-h", "127.0.0.1", "-U", USER, "-d", USER, "-p"]);
        command.args([&self.port.to_string(), "-c", statement]);
        output(&mut command)
    }

    /// Runs one workload with pgbench.
    pub(crate) fn run(&self, measure: &Measure, time: Duration) -> Result<Figure, CompareError> {
        let threads = available_parallelism().map_or(1, |count| count.get());
        let threads = threads.min(measure.clients as usize);
        let mut command = Command::new("pgbench");
        command.args(["-n", "-M", "prepared", "-h", "127.0.0.1", "-U", USER]);
        for (option, value) in [
            ("-p", u64::from(self.port)),
            ("-c", u64::from(measure.clients)),
            ("-j", threads as u64),
            ("-T", time.as_secs()),
        ] {
            command.arg(option).arg(value.to_string());
        }
        command.arg("-f").arg(self.script(measure.work)).arg(USER);
        let said = output(&mut command)?;
        read(&said).ok_or(CompareError::Unreadable {
            program: "pgbench".to_owned(),
            wanted: "its rate",
            said,
        })
    }
}

/// Reads what pgbench prints in the end.
fn read(said: &str) -> Option<Figure> {
    let after = |what: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(what))?;
        line.split_whitespace().next()
    };
    let failed = after("number of failed transactions: ").and_then(|count| count.parse().ok());
    Some(Figure {
        ops_per_s: after("tps = ")?.parse().ok()?,
        p50_ms: None,
        p99_ms: None,
        failed: failed.unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_read() {
        let said = "transaction type: hot\nnumber of failed transactions: 2 (0.001%)\n\
                    latency average = 30.1 ms\ntps = 2123.456789 (without initial connection time)\n";
        let figure = read(said).unwrap();
        assert_eq!((figure.ops_per_s, figure.failed), (2123.456789, 2));
        assert_eq!(read("pgbench: error"), None);
    }
}
