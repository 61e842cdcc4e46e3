//! A terminal that runs commands and records its screen.

use std::io::Read;
use std::num::NonZeroU16;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// Columns of the terminal.
pub const COLUMNS: u16 = 120;
/// Lines of the terminal: more than a recording has, so that none scrolls away.
const LINES: u16 = 200;
/// Interval between two frames.
const SAMPLE: Duration = Duration::from_millis(200);

/// A part of a line in one style.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The characters.
    pub text: String,
    /// Classes of the style: `g` green, `y` yellow, `r` red, `c` cyan, `d` dim, `b` bold.
    pub style: String,
}

/// The screen from the time `at` on.
pub struct Frame {
    /// Time since the start of the recording.
    pub at: Duration,
    /// The lines without trailing empty ones.
    pub lines: Vec<Vec<Span>>,
}

/// A recorded terminal session.
pub struct Recording {
    /// The frames in order; each differs from the previous one.
    pub frames: Vec<Frame>,
    /// The duration of the session.
    pub took: Duration,
}

impl Recording {
    /// Returns the text of the last frame.
    pub fn text(&self) -> String {
        self.frames.last().map(Frame::text).unwrap_or_default()
    }
}

impl Frame {
    /// Returns the text of the frame.
    pub fn text(&self) -> String {
        let line = |line: &Vec<Span>| line.iter().map(|span| span.text.as_str()).collect::<String>();
        self.lines.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// A terminal that records its screen.
pub struct Terminal {
    screen: vt100::Parser,
    hidden: Vec<(String, &'static str)>,
    /// Bytes that may be the start of a hidden text; the next bytes decide.
    waiting: Vec<u8>,
    start: Instant,
    frames: Vec<Frame>,
}

impl Terminal {
    /// Returns an empty terminal. It shows the second text of each pair in `hidden` instead of the first.
    pub fn open(hidden: Vec<(String, &'static str)>) -> Self {
        let [lines, columns] = [LINES, COLUMNS].map(|count| NonZeroU16::new(count).expect("not 0"));
        let screen = vt100::Parser::new(lines, columns, 0);
        Self { screen, hidden, waiting: Vec::new(), start: Instant::now(), frames: Vec::new() }
    }

    /// Shows a typed line.
    pub fn type_line(&mut self, line: &str) {
        self.screen.process(format!("\x1b[1m{line}\x1b[0m\r\n").as_bytes());
        self.look(self.start.elapsed());
    }

    /// Runs `command` in the terminal until it ends. Returns its exit code.
    pub fn run(&mut self, command: &mut Command) -> Result<i32> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).context("no terminal")?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        tcsetwinsize(&ours, Winsize { ws_row: LINES, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 })?;
        let name = ptsname(&ours, Vec::new())?;
        let theirs = std::fs::File::options().read(true).write(true).open(name.to_str()?)?;
        command.env("TERM", "xterm-256color").stdin(Stdio::null());
        command.stdout(theirs.try_clone()?).stderr(theirs.try_clone()?);
        let mut child = command.spawn().context("cannot start the command")?;
        // `command` keeps its copies of the terminal open until it is dropped or changed.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        drop(theirs);
        let (mut ours, mut buffer, mut looked) = (std::fs::File::from(ours), [0; 65536], self.start.elapsed());
        // Reading a closed terminal fails instead of returning 0 bytes.
        while let Ok(count) = ours.read(&mut buffer) {
            if count == 0 {
                break;
            }
            let now = self.start.elapsed();
            if now - looked >= SAMPLE {
                self.look(looked);
                looked = now;
            }
            self.show(&buffer[..count], false);
        }
        self.show(&[], true);
        self.look(self.start.elapsed());
        Ok(child.wait()?.code().unwrap_or(-1))
    }

    /// Shows `bytes`, which may end within a hidden text or within a character.
    fn show(&mut self, bytes: &[u8], is_end: bool) {
        self.waiting.extend(bytes);
        let (mut shown, mut at) = (Vec::new(), 0);
        'next: while at < self.waiting.len() {
            let rest = &self.waiting[at..];
            for (hidden, instead) in &self.hidden {
                if rest.starts_with(hidden.as_bytes()) {
                    shown.extend(instead.as_bytes());
                    at += hidden.len();
                    continue 'next;
                }
                if !is_end && hidden.as_bytes().starts_with(rest) {
                    break 'next;
                }
            }
            shown.push(rest[0]);
            at += 1;
        }
        self.waiting.drain(..at);
        self.screen.process(&shown);
    }

    /// Ends the session. Returns the recording.
    pub fn end(self) -> Recording {
        Recording { took: self.start.elapsed(), frames: self.frames }
    }

    /// Adds a frame if the screen has changed.
    fn look(&mut self, at: Duration) {
        let screen = self.screen.screen();
        let mut lines: Vec<Vec<Span>> = (0..LINES).map(|row| line(screen, row)).collect();
        lines.truncate(lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1));
        if self.frames.last().is_none_or(|last| last.lines != lines) {
            self.frames.push(Frame { at, lines });
        }
    }
}

/// Returns a line of the screen without trailing white space.
fn line(screen: &vt100::Screen, row: u16) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for cell in (0..COLUMNS).filter_map(|column| screen.cell(row, column)) {
        let text = if cell.has_contents() { cell.contents() } else { " " };
        let style = style(cell);
        match spans.last_mut() {
            Some(last) if last.style == style || text == " " => last.text.push_str(text),
            _ => spans.push(Span { text: text.to_owned(), style }),
        }
    }
    while let Some(last) = spans.last_mut() {
        last.text.truncate(last.text.trim_end().len());
        if !last.text.is_empty() {
            break;
        }
        spans.pop();
    }
    spans
}

fn style(cell: &vt100::Cell) -> String {
    let colour = match cell.fgcolor() {
        vt100::Color::Idx(1 | 9) => "r",
        vt100::Color::Idx(2 | 10) => "g",
        vt100::Color::Idx(3 | 11) => "y",
        vt100::Color::Idx(6 | 14) => "c",
        _ => "",
    };
    let names = [(true, colour), (cell.dim(), "d"), (cell.bold(), "b")];
    let names: Vec<&str> = names.iter().filter(|(is, name)| *is && !name.is_empty()).map(|(_, name)| *name).collect();
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_the_screen_shows_and_when() {
        let mut terminal = Terminal::open(vec![("/machine/checkout".into(), "~/todo")]);
        terminal.type_line("$ make");
        let script = "printf '\\033[32mbuilding\\033[0m /machine/checkout\\r'; sleep 0.5; printf '\\033[2K\\033[1;31mno\\033[0m\\n'; test -t 1 && exit 7";
        let code = terminal.run(Command::new("sh").args(["-c", script])).unwrap();
        let recording = terminal.end();
        assert_eq!((code, recording.text().as_str()), (7, "$ make\nno"));
        let second: Vec<_> = recording.frames.iter().filter_map(|frame| frame.lines.get(1)).collect();
        let span = |text: &str, style: &str| Span { text: text.into(), style: style.into() };
        assert_eq!(second, [&vec![span("building ", "g"), span("~/todo", "")], &vec![span("no", "r b")]]);
        assert!(recording.took >= Duration::from_millis(500));
    }

    #[test]
    fn replaces_hidden_text_that_arrives_in_pieces() {
        let text = "a /home/me/todo b /home/me/x \u{2713} /home/m";
        for size in 1..text.len() {
            let hidden = vec![("/home/me/todo".into(), "~/todo"), ("/home/me".into(), "~")];
            let mut terminal = Terminal::open(hidden);
            for piece in text.as_bytes().chunks(size) {
                terminal.show(piece, false);
                assert!(!terminal.screen.screen().contents().contains("/home/me"));
            }
            terminal.show(&[], true);
            assert_eq!(terminal.screen.screen().contents().trim_end(), "a ~/todo b ~/x \u{2713} /home/m", "{size}");
        }
    }
}
