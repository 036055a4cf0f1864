//! Ctrl-C where what was found until then is worth printing.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::SIGINT;
use signal_hook::flag;

/// What the first Ctrl-C sets; the second one ends the program at once.
pub(super) fn on_interrupt() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    // In this order: a handler that comes second sees what the first one set. Where a system takes no
    // handlers Ctrl-C ends the program as ever.
    let _ = flag::register_conditional_default(SIGINT, Arc::clone(&stop))
        .and_then(|_| flag::register(SIGINT, Arc::clone(&stop)));
    stop
}
