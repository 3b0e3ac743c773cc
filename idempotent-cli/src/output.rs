//! What a command prints: lines, tables, and colours where they can be seen.

use std::io::{self, BufWriter, IsTerminal as _, Write};

use idempotent_runtime::store::RecordStatus;

/// Standard output. If it is not read any more (`idempotent list | head`), what is written is dropped: a command goes on,
/// and its exit code says what it has done.
pub(crate) struct Output {
    out: BufWriter<Box<dyn Write>>,
    has_colours: bool,
    is_read: bool,
}

/// A colour by its meaning.
#[derive(Clone, Copy)]
pub(crate) enum Tone {
    Good,
    Notice,
    Bad,
}

impl Output {
    pub(crate) fn to_stdout() -> Self {
        let stdout = io::stdout();
        let has_colours = stdout.is_terminal() && is_colour_wanted(std::env::var_os("NO_COLOR"));
        Self {
            out: BufWriter::new(Box::new(stdout)),
            has_colours,
            is_read: true,
        }
    }

    pub(crate) fn line(&mut self, line: impl AsRef<str>) -> io::Result<()> {
        self.write(|out| writeln!(out, "{}", line.as_ref()))
    }

    /// `name: value`, in columns.
    pub(crate) fn field(&mut self, name: &str, value: impl AsRef<str>) -> io::Result<()> {
        self.write(|out| writeln!(out, "{name:<13} {}", value.as_ref()))
    }

    pub(crate) fn toned(&self, tone: Tone, text: &str) -> String {
        if !self.has_colours {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => 32,
            Tone::Notice => 33,
            Tone::Bad => 31,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.write(Write::flush)
    }

    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.flush()
    }

    /// Whether it is still read, as far as is known. A listing need not go on if not.
    pub(crate) fn is_read(&self) -> bool {
        self.is_read
    }

    fn write(
        &mut self,
        write: impl FnOnce(&mut BufWriter<Box<dyn Write>>) -> io::Result<()>,
    ) -> io::Result<()> {
        if !self.is_read {
            return Ok(());
        }
        match write(&mut self.out) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.is_read = false;
                Ok(())
            }
            written => written,
        }
    }
}

/// <https://no-color.org>: present and not empty.
fn is_colour_wanted(no_color: Option<std::ffi::OsString>) -> bool {
    no_color.is_none_or(|value| value.is_empty())
}

pub(crate) fn tone_of(status: RecordStatus) -> Tone {
    match status {
        RecordStatus::Completed => Tone::Good,
        RecordStatus::Abandoned => Tone::Bad,
        _ => Tone::Notice,
    }
}

pub(crate) fn name_of(status: RecordStatus) -> &'static str {
    match status {
        RecordStatus::InFlight => "in-flight",
        RecordStatus::Abandoned => "abandoned",
        RecordStatus::Completed => "completed",
        _ => "unknown",
    }
}

/// Text that was not written for a terminal: no control character of it gets there, and none that turns the direction of
/// writing.
pub(crate) fn plain(text: &str) -> String {
    let is_harmless = |it: char| !it.is_control() && !is_of_direction(it);
    text.chars().fold(String::new(), |mut plain, it| {
        match is_harmless(it) {
            true => plain.push(it),
            false => plain.extend(it.escape_unicode()),
        }
        plain
    })
}

/// Unicode's property `Bidi_Control`: all of its twelve characters.
fn is_of_direction(it: char) -> bool {
    matches!(
        it,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// `1.5 KiB`.
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let (mut size, mut name) = (number as f64 / 1024.0, "KiB");
    for unit in UNITS.iter().skip(1) {
        if size < 1024.0 {
            break;
        }
        (size, name) = (size / 1024.0, unit);
    }
    format!("{size:.1} {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_write_to_the_terminal() {
        assert_eq!(plain("order 7"), "order 7");
        assert_eq!(plain("a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\u{a}");
        assert_eq!(plain("a\u{202e}b"), "a\\u{202e}b");
    }

    /// U+061C, the newest of them, was let through.
    #[test]
    fn no_character_turns_the_direction_of_writing() {
        let marks = '\u{200e}'..='\u{200f}';
        let embeddings = '\u{202a}'..='\u{202e}';
        let isolates = '\u{2066}'..='\u{2069}';
        let all = ['\u{61c}'].into_iter().chain(marks).chain(embeddings);
        for it in all.chain(isolates) {
            assert_eq!(
                plain(&format!("a{it}b")),
                format!("a{}b", it.escape_unicode())
            );
        }
    }

    #[test]
    fn bytes_have_a_unit() {
        for (number, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (3 << 30, "3.0 GiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }

    #[test]
    fn no_color_that_is_empty_means_nothing() {
        assert!(is_colour_wanted(None));
        assert!(is_colour_wanted(Some("".into())));
        assert!(!is_colour_wanted(Some("1".into())));
    }
}
