//! `status --watch`: in place on a terminal; elsewhere one block each time that something has changed.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, LazyLock, Mutex};

use anyhow::Result;
use regex::Regex;

use super::text::screen;
use super::view::View;
use super::{gather, output};
use crate::clock;
use crate::deadlines;
use crate::project::Project;
use crate::toolchain::Toolchain;

/// A screen of its own, no cursor, and long lines cut instead of wrapped; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

static COLOURS: LazyLock<Regex> = LazyLock::new(|| Regex::new("\x1b\\[[0-9;]*m").expect("valid"));

/// Shows the status until the user interrupts or nobody reads any more.
pub fn run(project: &Project, toolchain: &Toolchain, json: bool) -> Result<()> {
    let live = std::io::stdout().is_terminal() && !json;
    if live {
        put(ENTER)?;
    }
    let last = Arc::new(Mutex::new(String::new()));
    let shown = Arc::clone(&last);
    project.report.on_interrupt(move || {
        if live {
            // What was seen last stays on the screen that one comes back to.
            let text = shown.lock().map(|text| text.clone()).unwrap_or_default();
            let _ = put(&format!("{LEAVE}{text}"));
        }
    });
    let mut before = String::new();
    while !output::nobody_reads() {
        let (text, key) = look(project, toolchain, json);
        let text = project.report.shown(&text);
        if live {
            put(&frame(&text))?;
            if let Ok(mut last) = last.lock() {
                *last = text;
            }
        } else if key != before {
            let text = if json { text } else { format!("-- {}\n{text}", clock::rfc3339(clock::now())) };
            if !output::print(text.trim_end())? {
                return Ok(());
            }
            before = key;
        }
        std::thread::sleep(deadlines::STATUS_POLL.time());
    }
    Ok(())
}

/// What to show, and what of it counts as a change. A cluster that does not answer for a moment is no end of a watch.
fn look(project: &Project, toolchain: &Toolchain, json: bool) -> (String, String) {
    match gather(project, toolchain, false) {
        Ok((.., view)) if json => {
            let key = screen(&view, None);
            (line(&view), key)
        }
        Ok((.., view)) => (screen(&view, Some(clock::now())), screen(&view, None)),
        Err(error) if json => {
            let line = serde_json::json!({"at": clock::rfc3339(clock::now()), "error": error.to_string()}).to_string();
            (line, error.to_string())
        }
        Err(error) => (format!("cannot read the status: {error:#}"), error.to_string()),
    }
}

/// One line of JSON: when, and the view.
fn line(view: &View) -> String {
    let mut object = serde_json::json!({"at": clock::rfc3339(clock::now())});
    if let (Some(object), Ok(serde_json::Value::Object(view))) = (object.as_object_mut(), serde_json::to_value(view)) {
        object.extend(view);
    }
    object.to_string()
}

/// The text over what was there before, cut where the screen ends.
fn frame(text: &str) -> String {
    let rows = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(50, |size| usize::from(size.ws_row));
    let lines: Vec<String> = text.lines().take(rows.saturating_sub(1)).map(|line| format!("{line}\x1b[K\n")).collect();
    format!("\x1b[H{}\x1b[J", lines.concat())
}

/// Writes to the terminal. Colours go where they are not wanted, the codes that move the cursor stay.
fn put(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let plain = anstream::AutoStream::choice(&out) == anstream::ColorChoice::Never;
    let text = if plain { COLOURS.replace_all(text, "") } else { text.into() };
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}
