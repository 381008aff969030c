//! Whether each Sidecar is for somebody, and nobody has two.

use naru_resource::Sidecar;
use naru_resource::meta::selects;

use crate::world::{World, said};
use crate::{About, Found};

pub(crate) fn check(world: &World<'_>, found: &mut Found) {
    let sidecars = &world.resources.sidecars;
    for sidecar in sidecars {
        let about = About { kind: "Sidecar", meta: &sidecar.meta };
        let (namespace, place) = (sidecar.meta.namespace(), sidecar.meta.name.place);
        let mut others = sidecars.iter().filter(|other| {
            !std::ptr::eq(*other, sidecar)
                && other.meta.namespace() == namespace
                && other.spec.workload_selector.is_some() == sidecar.spec.workload_selector.is_some()
        });
        let Some(selector) = &sidecar.spec.workload_selector else {
            if let Some(other) = others.next() {
                let message =
                    format!("Sidecar '{}' is for all of the namespace, too", other.meta.full_name());
                let hint = format!("join them; the other is at {}", at(world, other));
                found.tell("IST0111", about, place, "spec", message, hint);
            }
            continue;
        };
        if !world.selects_any(Some(namespace), &selector.labels) {
            let message = format!("nothing has the labels {}", said(&selector.labels));
            let hint = "correct the labels, or remove it";
            found.tell("IST0101", about, selector.place, "spec.workloadSelector", message, hint);
        }
        let meets = |other: &&Sidecar| {
            let theirs = other.spec.workload_selector.as_ref().map_or(&[][..], |theirs| &theirs.labels);
            world.workloads.iter().any(|workload| {
                workload.namespace == namespace
                    && selects(&selector.labels, workload.labels)
                    && selects(theirs, workload.labels)
            })
        };
        if let Some(other) = others.find(meets) {
            let message = format!("Sidecar '{}' selects some of the same workloads", other.meta.full_name());
            let hint = format!("the first has them: change the labels; the other is at {}", at(world, other));
            found.tell("IST0110", about, place, "spec", message, hint);
        }
    }
}

fn at(world: &World<'_>, sidecar: &Sidecar) -> String {
    world.resources.files.locate(sidecar.meta.name.place)
}
