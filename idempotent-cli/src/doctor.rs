//! `idempotent doctor`: what about the store can lose records or stop the service, and what to do about it.

use std::time::Duration;

use idempotent_runtime::store::{Finding, Severity};
use idempotent_runtime::{Error, ErrorKind, SecretsCheck};
use serde_json::json;

use crate::arguments::{Doctor, Settings};
use crate::failure::{Failure, causes};
use crate::output::{Output, Tone};
use crate::time::short;
use crate::{Answer, settings};

/// For all that is asked of the server.
const PATIENCE: Duration = Duration::from_secs(30);

/// One line of the report.
struct Line {
    severity: Severity,
    what: String,
    why: &'static str,
    fix: &'static str,
}

pub(crate) async fn run(
    settings: &Settings,
    command: &Doctor,
    output: &mut Output,
) -> Result<Answer, Failure> {
    let target = settings::target(settings)?;
    let findings = within(PATIENCE, target.check()).await??;
    let mut lines: Vec<_> = findings.into_iter().map(Line::from).collect();
    let is_broken = lines.iter().any(|line| line.severity == Severity::Danger);
    let secrets = within(PATIENCE, secrets(settings)).await??;
    // What cannot be read has been told.
    lines.extend(secrets.filter(|line| !(is_broken && line.severity == Severity::Danger)));
    // The worst last, where it is read.
    lines.sort_by_key(|line| line.severity);
    for line in &lines {
        match command.json {
            true => output.line(line.to_json())?,
            false => line.print(output)?,
        }
    }
    Ok(match lines.last().map(|line| line.severity) {
        None | Some(Severity::Good) => Answer::Yes,
        Some(Severity::Danger) => Answer::Broken,
        Some(_) => Answer::No,
    })
}

/// A server can accept a connection and never answer.
async fn within<T>(time: Duration, looking: impl Future<Output = T>) -> Result<T, Failure> {
    let looked = tokio::time::timeout(time, looking).await;
    looked.map_err(|_| {
        Failure::with_remedy(
            format!("the server accepts connections and has not answered for {}", short(time)),
            "is a proxy in between that holds connections back, a lock on the table, or a disk that hangs?",
        )
    })
}

/// Whether this tool finds records by clients' keys: it does with the service's namespace and secret.
async fn secrets(settings: &Settings) -> Result<Option<Line>, Failure> {
    let idempotency = match settings::opened(settings, None).await? {
        Ok(idempotency) => idempotency,
        // It is among the findings.
        Err(error) if error.kind() == ErrorKind::NotMigrated => return Ok(None),
        Err(error) => return Ok(Some(Line::unusable(&error))),
    };
    let checked = match idempotency.compare_secrets().await {
        Ok(checked) => checked,
        Err(error) => return Ok(Some(Line::unusable(&error))),
    };
    let line = |severity, what: &str, why, fix| Line {
        severity,
        what: what.to_owned(),
        why,
        fix,
    };
    const WHY: &str = "instances with another namespace or secret do not see each other's records, and this tool finds none by a client's key";
    Ok(Some(match checked {
        SecretsCheck::Shared => line(
            Severity::Good,
            "namespace and secret are those of the instances on this store",
            "",
            "",
        ),
        SecretsCheck::Different => line(
            Severity::Warning,
            "the instances with this namespace have another secret",
            WHY,
            "set IDEMPOTENCY_SECRET, or --secret-file, as the service does; if it is set so, an instance has another one",
        ),
        _ => line(
            Severity::Note,
            "no instance with this namespace has used this store",
            WHY,
            "set IDEMPOTENCY_NAMESPACE as the service does, or start the service once",
        ),
    }))
}

impl From<Finding> for Line {
    fn from(finding: Finding) -> Self {
        Self {
            severity: finding.severity,
            what: finding.what.into_owned(),
            why: finding.why,
            fix: finding.fix,
        }
    }
}

impl Line {
    fn unusable(error: &Error) -> Self {
        Self {
            severity: Severity::Danger,
            what: format!("a record cannot be read: {}", causes(error)),
            why: "the service cannot read it either, with this URL",
            fix: "see what the server says; does this user have the rights that the service needs?",
        }
    }

    fn print(&self, output: &mut Output) -> Result<(), Failure> {
        let (tone, name) = match self.severity {
            Severity::Good => (Tone::Good, "ok     "),
            Severity::Danger => (Tone::Bad, "ERROR  "),
            _ => (Tone::Notice, "warning"),
        };
        output.line(format!("{}  {}", output.toned(tone, name), self.what))?;
        if !self.why.is_empty() {
            output.line(format!("         {}", self.why))?;
        }
        if !self.fix.is_empty() {
            output.line(format!("         -> {}", self.fix))?;
        }
        Ok(())
    }

    fn to_json(&self) -> String {
        let severity = match self.severity {
            Severity::Good => "ok",
            Severity::Danger => "error",
            _ => "warning",
        };
        let line = json!({
            "severity": severity, "what": self.what, "why": self.why, "remedy": self.fix,
        });
        line.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_does_not_answer_is_not_waited_for() {
        let silent = std::future::pending::<()>();
        let failure = within(Duration::from_millis(1), silent).await.unwrap_err();
        assert!(
            failure.message.contains("not answered"),
            "{}",
            failure.message
        );
    }
}
