//! The table of decisions: `clients/vectors/*.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use idempotent_client::{Policy, Profile};
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub name: String,
    pub when: When,
    pub then: Then,
    #[serde(rename = "why")]
    _why: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct When {
    attempt: Option<u32>,
    #[serde(default)]
    pub sent: bool,
    #[serde(default)]
    pub elapsed_ms: u64,
    pub age_ms: Option<i64>,
    latest_ms: Option<u64>,
    profile: Option<String>,
    #[serde(default)]
    policy: BTreeMap<String, u64>,
    pub body: Option<String>,
    pub failure: Option<String>,
    pub answer: Option<Answer>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    pub status: u16,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    problem: Option<Value>,
    json: Option<Value>,
    text: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Then {
    pub next: String,
    pub wait_ms: Option<[u64; 2]>,
    reason: Option<Value>,
    pub key: String,
    pub intent: String,
}

impl Then {
    pub fn reason(&self) -> Option<String> {
        match self.reason.as_ref()? {
            Value::String(word) => Some(word.clone()),
            status => Some(status.to_string()),
        }
    }
}

impl When {
    pub fn attempt(&self) -> u32 {
        self.attempt.unwrap_or(1)
    }

    pub fn is_stripe(&self) -> bool {
        self.profile.as_deref() == Some("stripe")
    }

    /// When the key was made, for a decision at `now`.
    pub fn created(&self, now: SystemTime) -> SystemTime {
        let age = self
            .age_ms
            .unwrap_or(i64::try_from(self.elapsed_ms).unwrap());
        let distance = Duration::from_millis(age.unsigned_abs());
        if age < 0 {
            now + distance
        } else {
            now - distance
        }
    }

    /// The greatest reading of the clock before this try.
    pub fn latest(&self, now: SystemTime) -> Option<SystemTime> {
        let since = Duration::from_millis(self.latest_ms?);
        Some(self.created(now) + since)
    }

    pub fn policy(&self) -> Policy {
        let policy = self
            .policy
            .iter()
            .fold(default_policy(), |policy, (name, value)| {
                set(policy, name, *value)
            });
        policy.profile(if self.is_stripe() {
            Profile::Stripe
        } else {
            Profile::Draft
        })
    }
}

impl Answer {
    /// Its headers and its body, with the content type that the body implies.
    pub fn to_response(&self) -> http::Response<Vec<u8>> {
        let mut response = http::Response::builder().status(self.status);
        let (media_type, body) = match (&self.problem, &self.json) {
            (Some(problem), _) => ("application/problem+json", problem.to_string()),
            (None, Some(json)) => ("application/json", json.to_string()),
            (None, None) => {
                let text = self.text.clone();
                let text = text.unwrap_or_else(|| format!("answer {}", self.status));
                ("text/plain", text)
            }
        };
        if !self.headers.contains_key("content-type") {
            response = response.header("content-type", media_type);
        }
        for (name, value) in &self.headers {
            response = response.header(name, value);
        }
        response.body(body.into_bytes()).unwrap()
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients/vectors")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All tables by name.
pub fn tables() -> Vec<(String, Vec<Row>)> {
    let mut tables = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
            && name != "policy"
        {
            let rows = serde_json::from_str(&read(&path))
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            tables.push((name, rows));
        }
    }
    tables.sort_by(|(one, _), (other, _)| one.cmp(other));
    tables
}

fn policy_file() -> BTreeMap<String, Value> {
    serde_json::from_str(&read(&folder().join("policy.json"))).unwrap()
}

pub fn default_policy() -> Policy {
    let mut policy = Policy::new();
    for (name, value) in policy_file() {
        match name.as_str() {
            "now" => {}
            "profile" => assert_eq!(value, "idempotent"),
            name => policy = set(policy, name, value.as_u64().unwrap()),
        }
    }
    policy
}

/// The wall clock at the moment of each decision.
pub fn now() -> SystemTime {
    assert_eq!(policy_file()["now"], "2026-01-01T00:00:00.000Z");
    UNIX_EPOCH + Duration::from_secs(1_767_225_600)
}

fn set(policy: Policy, name: &str, value: u64) -> Policy {
    let time = Duration::from_millis(value);
    match name {
        "attempts" => policy.attempts(u32::try_from(value).unwrap()),
        "budget_ms" => policy.budget(time),
        "base_ms" => policy.base(time),
        "cap_ms" => policy.cap(time),
        "timeout_ms" => policy.timeout(time),
        "lifetime_ms" => policy.lifetime(time),
        "margin_ms" => policy.margin(time),
        _ => panic!("unknown setting {name}"),
    }
}
