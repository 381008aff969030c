//! `naru workload`: the service that others are tested with is tested by clients that others have written.

mod answers;
mod calls;
mod grpc;
mod life;
