//! What stands beside where a route sends requests: copies of them, and clients that stay with their endpoint.

use http::HeaderName;
use naru_base::Fraction;
use naru_resource::virtual_service::{Destination, HttpRoute, Percent, Persistence};
use naru_resource::{Place, VirtualService};
use naru_spec::{ClusterChoice, Cookie, Mirror, Path, Sticky, StickyCarrier, code};

use crate::findings::Findings;
use crate::recovery::percent_of;
use crate::routes::{Context, Owner, Routes};

impl Routes<'_> {
    /// Leads to clusters of the same endpoints where clients stay with theirs.
    pub fn stick(&mut self, choice: &mut ClusterChoice, said: &Persistence, context: &Context<'_>) {
        let client = match context {
            Context::Any => return,
            Context::Gateway { namespace, .. } => *namespace,
            Context::Mesh { client, .. } => client.namespace.as_str(),
        };
        let carrier = if said.is_header {
            HeaderName::from_bytes(said.name.as_bytes()).ok().map(StickyCarrier::Header)
        } else {
            Cookie::new(said.name.as_str(), said.lifetime, "/", Vec::new()).ok().map(StickyCarrier::Cookie)
        };
        let Some(carrier) = carrier else { return };
        let mut led = |name: &mut String| {
            let Some(mut cluster) = self.cluster(name).cloned() else { return };
            cluster.load_balancing.sticky = Some(Sticky { carrier: carrier.clone(), is_strict: false });
            *name = self.keep(cluster, client);
        };
        match choice {
            ClusterChoice::One(name) => led(name),
            ClusterChoice::Weighted(several) => several.iter_mut().for_each(|one| led(&mut one.name)),
        }
    }

    /// Copies of the requests; their clusters are built if they are new.
    pub fn mirrors(
        &mut self,
        service: &VirtualService,
        route: &HttpRoute,
        context: &Context<'_>,
        path: &Path<'_>,
        findings: &mut Findings<'_>,
    ) -> Vec<Mirror> {
        if let (Some(_), Some(second)) = (&route.mirror, route.mirrors.first()) {
            let message = "only one of mirror and mirrors can be said";
            findings.error(code::CONFLICTING_FIELDS, second.place, &path.field("mirrors"), message, "");
        }
        let mut mirrors = Vec::new();
        if let Some(destination) = &route.mirror {
            let (percent, place) = match (&route.mirror_percentage, &route.mirror_percent) {
                (Some(said), _) => percent_said(said),
                (None, Some(said)) => (said.value as f64, said.place),
                (None, None) => (100.0, destination.place),
            };
            let of_share = path.field("mirrorPercentage");
            let share = percent_of(percent, place, &of_share, findings);
            let path = path.field("mirror");
            mirrors.extend(self.mirror(service, destination, share, context, &path, findings));
        }
        let listed = path.field("mirrors");
        for (at, said) in route.mirrors.iter().enumerate() {
            let path = listed.at(at);
            let (percent, place) = said.percentage.as_ref().map_or((100.0, said.place), percent_said);
            let share = percent_of(percent, place, &path.field("percentage"), findings);
            let path = path.field("destination");
            mirrors.extend(self.mirror(service, &said.destination, share, context, &path, findings));
        }
        for invalid in naru_spec::fault::mirror_problems(&mirrors) {
            findings.error(code::INVALID_VALUE, route.place, &listed, invalid.message, invalid.hint);
        }
        mirrors
    }

    fn mirror(
        &mut self,
        service: &VirtualService,
        destination: &Destination,
        share: Option<Fraction>,
        context: &Context<'_>,
        path: &Path<'_>,
        findings: &mut Findings<'_>,
    ) -> Option<Mirror> {
        let cluster =
            self.own_destination(Owner::of(service), destination, context, "every copy", path, findings)?;
        // Istio: none at 0 %.
        let share = share.filter(|share| share.numerator() > 0)?;
        Some(Mirror { share, ..Mirror::to(cluster) })
    }
}

/// A percentage that says nothing is 0 %.
fn percent_said(said: &Percent) -> (f64, Place) {
    said.value.as_ref().map_or((0.0, said.place), |value| (value.value, value.place))
}
