//! Work of the crate beside a caller that listens: for signals, for a wish to stop, and for what is to be told.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use seccogc::parallel::goes_on;
use seccogc::{Error, Result};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber, span};

use crate::errors::{Raised, same_process};

/// How long the caller waits before it looks at signals again.
const TICK: Duration = Duration::from_millis(100);

/// Messages that wait for the caller; who has another one waits with it.
const MESSAGES: usize = 256;

/// Log lines that wait for the caller; of more the oldest are dropped.
const LINES: usize = 1000;

/// An object of Python, or none.
pub type Any<'py> = Option<Bound<'py, PyAny>>;

/// What a caller wants beside the result.
#[derive(Default)]
pub struct Hooks<'py> {
    /// Is called with every message, JSON; what it raises ends the work.
    pub progress: Any<'py>,
    /// A `threading.Event` that ends the work.
    pub stop: Any<'py>,
}

/// What the caller is asked to do.
type Call = Box<dyn for<'py> FnOnce(Python<'py>) + Send>;

/// What goes from the work to its caller.
enum Message {
    Tell(String),
    #[cfg_attr(
        not(feature = "deploy"),
        expect(dead_code, reason = "only parties of a deployment ask for it")
    )]
    Call(Call),
}

/// The caller, as the work sees it. It is shared by the threads of the work.
pub struct Caller<'a> {
    stop: &'a AtomicBool,
    messages: SyncSender<Message>,
}

impl Caller<'_> {
    /// Is set once the caller wants an end.
    pub fn stop(&self) -> &AtomicBool {
        self.stop
    }

    /// To be asked between the parts of the work.
    ///
    /// # Errors
    /// [`Error::Stopped`] once the caller wants an end.
    pub fn check(&self) -> Result<()> {
        goes_on(self.stop)
    }

    /// Tells the caller something, JSON.
    ///
    /// # Errors
    /// As [`Caller::check`].
    pub fn tell(&self, message: String) -> Result<()> {
        self.check()?;
        self.messages.send(Message::Tell(message)).map_err(|_| Error::Stopped)
    }

    /// Has the caller do something with the interpreter, and waits for it.
    ///
    /// # Errors
    /// As [`Caller::check`]; what is raised comes back as [`Error::Own`].
    #[cfg(feature = "deploy")]
    pub fn call<T: Send + 'static>(
        &self,
        act: impl for<'py> FnOnce(Python<'py>) -> PyResult<T> + Send + 'static,
    ) -> Result<T> {
        self.check()?;
        let (answer, answers) = sync_channel(1);
        let call = Box::new(move |py: Python<'_>| drop(answer.send(act(py))));
        self.messages.send(Message::Call(call)).map_err(|_| Error::Stopped)?;
        let answered = answers.recv().map_err(|_| Error::Stopped)?;
        answered.map_err(|error| Error::Own(Box::new(error)))
    }
}

/// Does work on a thread of its own, while the calling thread waits detached, looks at signals, calls
/// `progress` and logs.
///
/// # Errors
/// What the work refuses. What a signal or `progress` raises, once the work has stopped.
pub fn run<T: Send>(
    py: Python<'_>,
    hooks: &Hooks<'_>,
    work: impl FnOnce(&Caller<'_>) -> Result<T> + Send,
) -> PyResult<T> {
    same_process()?;
    listen();
    let stop = AtomicBool::new(false);
    let (messages, told) = sync_channel(MESSAGES);
    let told = Mutex::new(told);
    let mut raised = None;
    let result = std::thread::scope(|scope| {
        let caller = Caller { stop: &stop, messages };
        let worker = scope.spawn(move || work(&caller));
        loop {
            let message = py.detach(|| next(&told));
            let heard = match message {
                Err(RecvTimeoutError::Disconnected) => break,
                // Who has raised hears nothing more.
                _ if raised.is_some() => Ok(()),
                Ok(Message::Tell(message)) => hear(py, hooks, Some(&message), &stop),
                Ok(Message::Call(call)) => {
                    call(py);
                    hear(py, hooks, None, &stop)
                }
                Err(RecvTimeoutError::Timeout) => hear(py, hooks, None, &stop),
            };
            if let Err(error) = heard {
                raised = Some(error);
                stop.store(true, Ordering::Relaxed);
            }
        }
        py.detach(|| worker.join())
    });
    let result = result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let logged = log(py);
    match raised {
        Some(error) => Err(error),
        None => logged.and(result.raised(py)),
    }
}

fn next(told: &Mutex<Receiver<Message>>) -> std::result::Result<Message, RecvTimeoutError> {
    told.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(TICK)
}

/// What the caller does between two waits.
fn hear(py: Python<'_>, hooks: &Hooks<'_>, message: Option<&String>, stop: &AtomicBool) -> PyResult<()> {
    py.check_signals()?;
    log(py)?;
    if let (Some(message), Some(progress)) = (message, &hooks.progress) {
        progress.call1((message,))?;
    }
    if let Some(event) = &hooks.stop
        && event.call_method0("is_set")?.is_truthy()?
    {
        stop.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// Log lines of all threads, with the level that `logging` gives them.
static LOG: Mutex<VecDeque<(u8, String)>> = Mutex::new(VecDeque::new());

/// Takes the log of this process from now on. The program itself, which prints them, comes before.
pub fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Where another one listens already, it goes on.
        let _ = tracing::subscriber::set_global_default(Log);
    });
}

/// Hands the waiting log lines to the logger `seccogc`.
///
/// # Errors
/// What a handler raises.
pub fn log(py: Python<'_>) -> PyResult<()> {
    let lines = std::mem::take(&mut *LOG.lock().unwrap_or_else(PoisonError::into_inner));
    if lines.is_empty() {
        return Ok(());
    }
    let logger = py.import("logging")?.call_method1("getLogger", ("seccogc",))?;
    for (level, line) in lines {
        logger.call_method1("log", (level, "%s", line))?;
    }
    Ok(())
}

struct Log;

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let own = metadata.target().starts_with("seccogc");
        *metadata.level() <= if own { Level::INFO } else { Level::ERROR }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::INFO)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        let level = match *event.metadata().level() {
            Level::ERROR => 40,
            Level::WARN => 30,
            _ => 20,
        };
        let mut log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() == LINES {
            log.pop_front();
        }
        log.push_back((level, line.0));
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// The text of an event, and its fields.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

/// Gives all later work so many threads; before the first work alone.
#[pyfunction]
fn set_threads(py: Python<'_>, threads: usize) -> PyResult<()> {
    same_process()?;
    seccogc::parallel::set_threads(threads).raised(py)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(set_threads, module)?)
}
