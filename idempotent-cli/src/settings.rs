//! Which store, and whose records: from the environment and from files.

use std::path::Path;
use std::time::Duration;

use idempotent_runtime::store::Target;
use idempotent_runtime::{Error, Idempotency};

use crate::arguments::Settings;
use crate::failure::Failure;

/// Longer than a service waits: no request waits for this one.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);

/// What of a service's settings decides about its record keys.
#[derive(Debug, Default, PartialEq, Eq)]
struct Identity {
    namespace: String,
    secret: Option<Vec<u8>>,
    previous_secrets: Vec<Vec<u8>>,
}

/// The handle on the store, which is not changed by having it: no table, no check record, no purge.
pub(crate) async fn open(settings: &Settings) -> Result<Idempotency, Failure> {
    Ok(opened(settings, None).await??)
}

/// The same, for a response that is to be replayed so long.
pub(crate) async fn open_with_ttl(
    settings: &Settings,
    ttl: Duration,
) -> Result<Idempotency, Failure> {
    Ok(opened(settings, Some(ttl)).await??)
}

/// The same; the inner error is the store's.
pub(crate) async fn opened(
    settings: &Settings,
    ttl: Option<Duration>,
) -> Result<Result<Idempotency, Error>, Failure> {
    let identity = Identity::read(settings, |name| std::env::var(name).ok())?;
    let store = match target(settings)?.open().await {
        Ok(store) => store,
        Err(error) => return Ok(Err(error)),
    };
    let mut builder = Idempotency::builder(store)
        .replay_cache(None)
        .secret_check(false)
        .purge_interval(Duration::ZERO)
        .store_timeout(STORE_TIMEOUT)
        .namespace(identity.namespace)
        .previous_secrets(identity.previous_secrets);
    if let Some(secret) = identity.secret {
        builder = builder.secret(secret);
    }
    if settings.previously_without_secret {
        builder = builder.previously_without_secret();
    }
    if let Some(ttl) = ttl {
        builder = builder.ttl(ttl);
    }
    Ok(Ok(builder.build()))
}

/// The store that is named.
pub(crate) fn target(settings: &Settings) -> Result<Target, Failure> {
    let Some(url) = settings.store.as_deref().filter(|url| !url.is_empty()) else {
        return Err(Failure::with_remedy(
            "no store",
            "set --store or IDEMPOTENCY_URL to the URL that the service connects to, such as postgres://app@db.example.com/shop",
        ));
    };
    if url.starts_with("memory:") {
        return Err(Failure::with_remedy(
            "a memory store is inside the process of its service: no other process can look into it",
            "call `Idempotency::list`, `inspect` and `resolve_as` in the service",
        ));
    }
    let mut target = Target::new(url);
    if let Some(table) = &settings.table {
        target = target.table(table);
    }
    if let Some(schema) = &settings.schema {
        target = target.schema(schema);
    }
    if let Some(prefix) = &settings.prefix {
        target = target.prefix(prefix);
    }
    Ok(target)
}

impl Identity {
    fn read(
        settings: &Settings,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Failure> {
        let of_file = settings.secret_file.as_deref().map(secret).transpose()?;
        let of_variable = variable("IDEMPOTENCY_SECRET").map(String::into_bytes);
        let secret = of_file.or(of_variable.filter(|secret| !secret.is_empty()));
        let files = settings.previous_secret_file.iter();
        let mut previous: Vec<_> = files
            .map(|file| self::secret(file))
            .collect::<Result<_, _>>()?;
        if previous.is_empty() {
            let lines = variable("IDEMPOTENCY_PREVIOUS_SECRETS").unwrap_or_default();
            let lines = lines.lines().filter(|line| !line.is_empty());
            previous = lines.map(|line| line.as_bytes().to_vec()).collect();
        }
        Ok(Self {
            namespace: variable("IDEMPOTENCY_NAMESPACE").unwrap_or_default(),
            secret,
            previous_secrets: previous,
        })
    }
}

fn secret(file: &Path) -> Result<Vec<u8>, Failure> {
    let secret = std::fs::read(file);
    let secret = secret.map_err(|error| {
        Failure::new(format!(
            "cannot read the secret in {}: {error}",
            file.display()
        ))
    })?;
    match without_line_end(&secret) {
        [] => Err(Failure::new(format!(
            "there is no secret in {}",
            file.display()
        ))),
        secret => Ok(secret.to_vec()),
    }
}

/// Editors put one there.
pub(crate) fn without_line_end(text: &[u8]) -> &[u8] {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.strip_suffix(b"\r").unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            store: None,
            table: None,
            schema: None,
            prefix: None,
            secret_file: None,
            previous_secret_file: Vec::new(),
            previously_without_secret: false,
        }
    }

    #[test]
    fn secrets_of_the_environment_are_one_on_each_line() {
        let variable = |name: &str| match name {
            "IDEMPOTENCY_NAMESPACE" => Some("shop".to_owned()),
            "IDEMPOTENCY_SECRET" => Some("new".to_owned()),
            "IDEMPOTENCY_PREVIOUS_SECRETS" => Some("oldest\n\nold\n".to_owned()),
            _ => None,
        };
        let identity = Identity::read(&settings(), variable).unwrap();
        assert_eq!(identity.namespace, "shop");
        assert_eq!(identity.secret.as_deref(), Some(&b"new"[..]));
        assert_eq!(identity.previous_secrets, [&b"oldest"[..], b"old"]);
        let none = Identity::read(&settings(), |_| Some(String::new())).unwrap();
        assert_eq!(none, Identity::default());
    }

    #[test]
    fn one_line_end_is_no_part_of_a_secret() {
        for (text, secret) in [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n")] {
            assert_eq!(without_line_end(text.as_bytes()), secret.as_bytes());
        }
    }

    #[test]
    fn memory_is_refused_with_a_reason() {
        let mut settings = settings();
        settings.store = Some("memory:".to_owned());
        let Err(Failure { message, remedy }) = target(&settings) else {
            panic!("it is taken");
        };
        assert!(message.contains("inside the process"), "{message}");
        assert!(remedy.is_some());
    }
}
