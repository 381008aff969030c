//! From an order to a certificate (RFC 8555, section 7): the account, the order, what is to be proved, the request.

use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::Request;
use http_body::Body as _;
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, BodyWrapper, BytesResponse, ChallengeStatus,
    ChallengeType, Error, HttpClient, Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use naru_plan::{AcmeAnswer, AcmeOrder, AcmeSays};
use naru_resource::acme::AcmeChallenge;
use naru_spec::{Certificate, DataSource};
use naru_tls::issue;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::Event;
use super::store::Store;

/// Where the system keeps the authorities that it trusts.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// A server takes its time to look.
const POLLS: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(500)).timeout(Duration::from_secs(120));
/// Where a server says that there were too many; Let's Encrypt counts by the hour.
const RATE_LIMITED: Duration = Duration::from_secs(3_600);

/// What is not lost with the process: an order that is under way is gone on with, and not given a second time.
pub async fn obtain(
    order: &AcmeOrder,
    store: &Store,
    events: &mpsc::UnboundedSender<Event>,
) -> anyhow::Result<Certificate> {
    let obtained = go_on(order, store, events).await;
    // Of one that was refused nothing more comes; one that is given up in the midst of it is still there.
    store.forget_order();
    obtained
}

async fn go_on(
    order: &AcmeOrder,
    store: &Store,
    events: &mpsc::UnboundedSender<Event>,
) -> anyhow::Result<Certificate> {
    let account = account(order, store).await.context("the account")?;
    let (mut asked, mut key) = match resume(&account, order, store).await {
        Some(resumed) => resumed,
        None => {
            let identifiers: Vec<Identifier> = order.names.iter().cloned().map(Identifier::Dns).collect();
            let asked = account.new_order(&NewOrder::new(&identifiers)).await.context("the order")?;
            keep(order, store, asked.url(), None)?;
            (asked, None)
        }
    };
    if asked.state().status == OrderStatus::Pending {
        prove(&mut asked, order, events).await?;
        let status = asked.poll_ready(&POLLS).await.context("the server looked")?;
        if status != OrderStatus::Ready {
            bail!("{}", refusal(&mut asked).await);
        }
    }
    let key = match key.take().filter(|_| asked.state().status != OrderStatus::Ready) {
        Some(key) => key,
        None => {
            let request = issue::signing_request(&order.names)?;
            // Or nobody could use what is signed.
            keep(order, store, asked.url(), Some(&request.key))?;
            asked.finalize_csr(&request.der).await.context("the request for a signature")?;
            request.key
        }
    };
    let chain = asked.poll_certificate(&POLLS).await.context("the certificate")?;
    let pem = format!("{}\n{chain}", key.trim_end()).into_bytes();
    Ok(Certificate::new(DataSource::Inline(pem.clone()), DataSource::Inline(pem)))
}

fn keep(order: &AcmeOrder, store: &Store, url: &str, key: Option<&str>) -> anyhow::Result<()> {
    let kept = json!({ "server": order.server, "names": order.names, "url": url, "key": key });
    store.keep_order(&serde_json::to_vec(&kept)?)
}

/// The order that was given before, and its key where a signature was asked for, if something may still come of it.
async fn resume(account: &Account, order: &AcmeOrder, store: &Store) -> Option<(Order, Option<String>)> {
    let kept: Value = serde_json::from_slice(&store.order()?).ok()?;
    if kept["server"] != order.server || kept["names"] != json!(order.names) {
        return None;
    }
    let mut asked = account.order(kept["url"].as_str()?.to_owned()).await.ok()?;
    let key = kept["key"].as_str().map(str::to_owned);
    match asked.state().status {
        OrderStatus::Pending | OrderStatus::Ready => Some((asked, None)),
        OrderStatus::Processing | OrderStatus::Valid if key.is_some() => Some((asked, key)),
        _ => None,
    }
}

/// Answers what the server asks for, and has it look.
async fn prove(
    asked: &mut Order,
    order: &AcmeOrder,
    events: &mpsc::UnboundedSender<Event>,
) -> anyhow::Result<()> {
    let kind = match order.challenge {
        AcmeChallenge::Http01 => ChallengeType::Http01,
        AcmeChallenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
    };
    let mut answers = Vec::new();
    let mut authorizations = asked.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.context("what is to be proved")?;
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            status => bail!("what is to be proved is {status:?} already"),
        }
        let challenge = authorization.challenge(kind.clone());
        let challenge = challenge.with_context(|| format!("the server does not offer {kind:?}"))?;
        let name = challenge.identifier().to_string();
        let authorized = challenge.key_authorization();
        let says = match order.challenge {
            AcmeChallenge::Http01 => {
                AcmeSays::Text { token: token(&challenge.token)?, text: authorized.as_str().to_owned() }
            }
            AcmeChallenge::TlsAlpn01 => {
                let digest = <[u8; 32]>::try_from(authorized.digest().as_ref())?;
                AcmeSays::Certificate(issue::challenge(&name, &digest)?)
            }
        };
        answers.push(AcmeAnswer { name, says });
    }
    if answers.is_empty() {
        return Ok(());
    }
    answer(order, answers, events).await;
    let mut authorizations = asked.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Pending
            && let Some(mut challenge) = authorization.challenge(kind.clone())
            // At others it looks already: the process before this one has told it to.
            && challenge.status == ChallengeStatus::Pending
        {
            challenge.set_ready().await.context("the server was told to look")?;
        }
    }
    Ok(())
}

/// Has all workers answer so; returns once they do.
pub async fn answer(order: &AcmeOrder, answers: Vec<AcmeAnswer>, events: &mpsc::UnboundedSender<Event>) {
    let (done, is_done) = oneshot::channel();
    if events.send(Event::Answer { issuer: order.issuer.clone(), answers, done }).is_ok() {
        let _ = is_done.await;
    }
}

/// How long the server asks not to be asked.
pub fn retry_after(error: &anyhow::Error) -> Option<Duration> {
    match error.downcast_ref::<Error>()? {
        Error::Api(problem) => {
            let is_limited = problem.status == Some(429)
                || problem.r#type.as_deref() == Some("urn:ietf:params:acme:error:rateLimited");
            is_limited.then_some(RATE_LIMITED)
        }
        _ => None,
    }
}

/// That of the time before, or a new one.
async fn account(order: &AcmeOrder, store: &Store) -> anyhow::Result<Account> {
    let builder = || {
        let trusted_ca = order.trusted_ca.clone().unwrap_or_else(|| SYSTEM_AUTHORITIES.to_owned());
        Account::builder_with_http(Box::new(Client { trusted_ca: DataSource::File(trusted_ca) }))
    };
    if let Some(kept) = store.account()
        && serde_json::from_slice::<serde_json::Value>(&kept)
            .is_ok_and(|kept| kept["directory"] == order.server)
        && let Ok(credentials) = serde_json::from_slice::<AccountCredentials>(&kept)
    {
        let account = builder().from_credentials(credentials).await?;
        // A server that does not know it any more, as after it was set up anew, is given another one.
        match account.update_contacts(&contacts(order).iter().map(String::as_str).collect::<Vec<_>>()).await {
            Err(Error::Api(problem))
                if problem.r#type.as_deref() == Some("urn:ietf:params:acme:error:accountDoesNotExist") => {}
            Err(error) => return Err(error.into()),
            Ok(()) => return Ok(account),
        }
    }
    let contacts = contacts(order);
    let contacts: Vec<&str> = contacts.iter().map(String::as_str).collect();
    let new = NewAccount { contact: &contacts, terms_of_service_agreed: true, only_return_existing: false };
    let (account, credentials) = builder().create(&new, order.server.clone(), None).await?;
    store.keep_account(&serde_json::to_vec(&credentials)?)?;
    Ok(account)
}

fn contacts(order: &AcmeOrder) -> Vec<String> {
    order.email.iter().map(|email| format!("mailto:{email}")).collect()
}

/// It becomes part of a path (RFC 8555, section 8.3: base64url).
fn token(token: &str) -> anyhow::Result<String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if token.is_empty() || token.len() > 256 || !token.bytes().all(is_token) {
        bail!("the server's token is none");
    }
    Ok(token.to_owned())
}

/// What the server says of what it has seen.
async fn refusal(asked: &mut instant_acme::Order) -> String {
    let mut said = Vec::new();
    let mut authorizations = asked.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else { continue };
        let failed = state.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
        said.extend(failed.map(ToString::to_string));
    }
    if said.is_empty() { "the server refused the order".to_owned() } else { said.join("; ") }
}

/// The library's requests.
struct Client {
    trusted_ca: DataSource,
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let trusted_ca = self.trusted_ca.clone();
        Box::pin(async move {
            let (head, mut body) = request.into_parts();
            let mut whole = Vec::new();
            while let Some(Ok(frame)) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                whole.extend_from_slice(frame.data_ref().map_or(&[][..], |bytes| bytes));
            }
            let asked = naru_proxy::ask(Request::from_parts(head, Bytes::from(whole)), trusted_ca).await;
            let (head, body) = asked.map_err(|error| Error::Other(Box::new(error)))?.into_parts();
            Ok(BytesResponse { parts: head, body: Box::new(body) })
        })
    }
}
