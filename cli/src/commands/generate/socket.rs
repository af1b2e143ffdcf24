//! A unit of systemd's for sockets of a machine (`systemd.socket(5)`): who connects starts it.

use std::fmt;

use vmm::app::{App, Port};

/// A unit; its text is what it prints as.
pub struct Socket<'a> {
    /// The machine.
    machine: &'a str,
    /// The name that systemd hands the sockets over by.
    name: &'a str,
    port: &'a Port,
}

/// Those that the ports of `app` ask for, whose machine is called `machine`.
pub fn sockets<'a>(machine: &'a str, app: &'a App) -> Vec<Socket<'a>> {
    let socket = |port: &'a Port| {
        Some(Socket {
            machine,
            name: port.host.handed()?,
            port,
        })
    };
    app.ports.iter().filter_map(socket).collect()
}

impl Socket<'_> {
    /// The file's name.
    pub fn file_name(&self) -> String {
        format!("mvm-{}-{}.socket", self.machine, self.name)
    }
}

impl fmt::Display for Socket<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            machine,
            name,
            port,
        } = self;
        let (address, number) = (port.address, port.guest);
        writeln!(
            f,
            "# {}, made by `mvm generate systemd`\n",
            self.file_name()
        )?;
        writeln!(f, "[Unit]\nDescription=Socket {name} of machine {machine}")?;
        writeln!(
            f,
            "\n[Socket]\n# The number that the port has in the machine; a path is a UNIX socket."
        )?;
        writeln!(f, "ListenStream={address}:{number}")?;
        writeln!(
            f,
            "FileDescriptorName={name}\nService=mvm-{machine}.service"
        )?;
        writeln!(f, "\n[Install]\nWantedBy=sockets.target")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_port_that_systemd_listens_at_has_a_unit() {
        let mut app = App::new("file", vec!["sh".into()]);
        let ports = ["systemd:http:80", "8080:81", "systemd:api:82"];
        app.ports = ports.map(|port| port.parse().unwrap()).into();
        let sockets = sockets("web", &app);
        let names: Vec<_> = sockets.iter().map(Socket::file_name).collect();
        assert_eq!(names, ["mvm-web-http.socket", "mvm-web-api.socket"]);
        let text = sockets[0].to_string();
        for line in [
            "ListenStream=127.0.0.1:80",
            "FileDescriptorName=http",
            "Service=mvm-web.service",
            "WantedBy=sockets.target",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
