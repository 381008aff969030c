//! `naru simulate`: a scenario on virtual time.

use crate::cli::{Failure, SimulateArgs};

pub fn run(_args: &SimulateArgs) -> Result<(), Failure> {
    Err(Failure::Error(anyhow::anyhow!("not yet")))
}
