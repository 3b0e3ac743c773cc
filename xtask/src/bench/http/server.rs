//! A server under load: a process on a core of its own, with one implementation.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// It is ended, by its process id, when this is dropped.
pub(super) struct Server {
    process: Child,
    pub(super) address: SocketAddr,
}

impl Server {
    pub(super) fn start(
        program: &Path,
        core: usize,
        implementation: &str,
        store: Option<&str>,
    ) -> Result<Self, String> {
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", &core.to_string()]).arg(program);
        command.args(["serve", "--impl", implementation]);
        command.args(store.iter().flat_map(|url| ["--store", url]));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command
            .spawn()
            .map_err(|error| format!("cannot run taskset: {error}"))?;
        let mut line = String::new();
        if let Some(output) = process.stdout.take() {
            // An empty line means that it has ended, after having said why.
            let _ = BufReader::new(output).read_line(&mut line);
        }
        match line.trim().parse() {
            Ok(address) => Ok(Self { process, address }),
            Err(_) => {
                let _ = process.kill();
                let _ = process.wait();
                Err(format!("the server of `{implementation}` does not start"))
            }
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// How often its handler has run.
    pub(super) fn executions(&self) -> Result<f64, String> {
        let request = "GET /executions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let answer = self.ask(request)?;
        let number = answer.rsplit("\r\n").next().unwrap_or_default().parse();
        number.map_err(|_| format!("the server does not say how often its handler ran: {answer}"))
    }

    /// One request, on a connection that it closes.
    pub(super) fn ask(&self, request: &str) -> Result<String, String> {
        let asked = || -> std::io::Result<String> {
            let mut connection = TcpStream::connect(self.address)?;
            connection.write_all(request.as_bytes())?;
            let mut answer = String::new();
            connection.read_to_string(&mut answer)?;
            Ok(answer)
        };
        asked().map_err(|error| format!("the server does not answer: {error}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
