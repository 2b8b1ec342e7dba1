//! An OpenSSH server of the test's own, on a port of its own, which lets in one key.

use super::program::Place;
use super::service::free_port;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where Debian has it: not in the path of everybody.
const PROGRAMS: [&str; 3] = ["/usr/sbin/sshd", "/usr/bin/sshd", "/usr/local/sbin/sshd"];

/// A server. It ends with the test.
pub struct SshServer {
    child: Child,
    /// What connects to it.
    pub client: String,
}

fn run(command: &mut Command) {
    let done = command.stdin(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

impl SshServer {
    /// Starts one on a host, whose files are in the folder `ssh`.
    pub fn start(place: &Place, host: &str) -> SshServer {
        let program = PROGRAMS.iter().find(|program| fs::exists(program).unwrap());
        let program = program.expect("the tests need sshd; scripts/test installs it (Debian's package openssh-server)");
        for key in ["host", "user"] {
            place.write("ssh/.keep", "");
            run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(place.path(&format!("ssh/{key}"))));
        }
        fs::copy(place.path("ssh/user.pub"), place.path("ssh/authorized")).unwrap();
        let port = free_port();
        let path = |name: &str| place.path(&format!("ssh/{name}")).display().to_string();
        place.write(
            "ssh/sshd_config",
            format!(
                "ListenAddress {host}:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\n\
                 PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n",
                path("host"),
                path("authorized")
            ),
        );
        place.write(
            "ssh/config",
            format!(
                "Host *\n  Port {port}\n  IdentityFile {}\n  IdentitiesOnly yes\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n",
                path("user")
            ),
        );
        // Where it runs as root, it wants a folder that nobody can write to.
        fs::create_dir_all("/run/sshd").and_then(|()| fs::set_permissions("/run/sshd", fs::Permissions::from_mode(0o755))).ok();
        let child = Command::new(program)
            .args(["-D", "-e", "-f", &path("sshd_config")])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect((host, port)).is_err() {
            assert!(Instant::now() < until, "sshd does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        SshServer { child, client: format!("ssh -F {}", path("config")) }
    }
}

impl Drop for SshServer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
