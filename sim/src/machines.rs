//! The machines of a run.

use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::time::Duration;

use ringlog_reactor::sim::{Host, SimDisk, Simulation};

use crate::broker::Broker;
use crate::plan::Plan;
use crate::stage::Stage;

/// How long a fault that ends by itself may last.
pub const FAULT_WITHIN: Duration = Duration::from_secs(8);

/// The machines of a run.
pub struct Play {
    pub world: Rc<Simulation>,
    pub stage: Rc<Stage>,
    pub plan: Rc<Plan>,
    pub broker: Broker,
    pub clients: Vec<Host>,
}

impl Play {
    /// Machines on which nothing runs yet.
    pub fn new(world: Rc<Simulation>, stage: Rc<Stage>, plan: Rc<Plan>) -> Play {
        let host = world.host("broker", address(1), SimDisk::new(plan.seed));
        let broker = Broker::new(host, Rc::clone(&stage), plan.sizes, 7171);
        let client = |number: usize| {
            let disk = SimDisk::new(plan.seed);
            world.host(&format!("client-{number}"), address(100 + number as u8), disk)
        };
        let clients = (0..plan.clients).map(client).collect();
        Play { world, stage, plan, broker, clients }
    }
}

/// Where the machine with this number is.
pub fn address(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}
