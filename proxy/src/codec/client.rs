//! The upstream's side: what there is to say where no response comes.

use http::Request;
use naru_base::Reason;
use naru_journey::Sent;

use crate::upload::UploadBody;

/// Why no response head came.
#[derive(Debug)]
pub struct SendFailure {
    pub reason: Reason,
    pub sent: Sent,
    /// The request, where it can be sent again as it is.
    pub request: Option<Box<Request<UploadBody>>>,
}
