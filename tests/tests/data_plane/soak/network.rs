//! A network namespace with a link to it that can be taken down. Made by root, where the system has such; gone with its
//! owner. Its addresses are of the range for tests of networks (RFC 2544), and nothing for them ever leaves the machine: where
//! the link is down they are unreachable.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

pub struct Network {
    pub name: String,
    link: String,
    prefix: String,
    /// The address at its end.
    pub there: Ipv4Addr,
}

impl Network {
    /// `None` where there is no right, or no means, to make one.
    pub fn make() -> Option<Network> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let id = std::process::id();
        let [high, low] = ((id % (1 << 14)) as u16 * 4).to_be_bytes();
        let address = |last: u8| Ipv4Addr::new(198, 18, high, low | last);
        let network = Network {
            name: format!("naru-soak-{id}"),
            link: format!("naru{id}"),
            prefix: format!("{}/30", address(0)),
            there: address(2),
        };
        let inside = ["netns", "exec", &network.name, "ip"];
        let peer = "naru0";
        // Before anything else: the default route must not be the next best.
        let is_made = ip(&["route", "add", "unreachable", &network.prefix, "metric", "4096"])
            && ip(&["netns", "add", &network.name])
            && ip(&[
                "link",
                "add",
                &network.link,
                "type",
                "veth",
                "peer",
                "name",
                peer,
                "netns",
                &network.name,
            ])
            && ip(&["address", "add", &format!("{}/30", address(1)), "dev", &network.link])
            && ip(&["link", "set", &network.link, "up"])
            && ip(&[&inside[..], &["address", "add", &format!("{}/30", address(2)), "dev", peer]].concat())
            && ip(&[&inside[..], &["link", "set", peer, "up"]].concat())
            && ip(&[&inside[..], &["link", "set", "lo", "up"]].concat());
        // What was made in part goes.
        is_made.then_some(network)
    }

    pub fn goes_down(&self) {
        assert!(ip(&["link", "set", &self.link, "down"]));
    }

    pub fn comes_up(&self) {
        assert!(ip(&["link", "set", &self.link, "up"]));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        ip(&["link", "delete", &self.link]);
        ip(&["netns", "delete", &self.name]);
        // Last of all.
        ip(&["route", "delete", "unreachable", &self.prefix, "metric", "4096"]);
    }
}

fn ip(arguments: &[&str]) -> bool {
    let run = Command::new("ip").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success())
}
