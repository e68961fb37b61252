//! The one place where panics of the format libraries are caught: some of them panic on damaged bytes.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// This thread hands untrusted bytes to a library.
    static AT_RISK: Cell<bool> = const { Cell::new(false) };
}

/// Runs `read`, which hands untrusted bytes to a library; if that panics, the answer is that `what` is damaged.
///
/// Such a panic is a finding about the file and no crash, so it is not printed as one.
pub(crate) fn caught<T>(what: &str, read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    hush();
    let outer = AT_RISK.replace(true);
    // Unwind safe: whatever `read` was building is dropped or, like decoded batches, only grows by whole values.
    let result = catch_unwind(AssertUnwindSafe(read));
    AT_RISK.set(outer);
    result.unwrap_or_else(|payload| Err(format!("{what} is damaged ({})", text_of(payload.as_ref()))))
}

/// Puts a hook before the process's own that passes on every panic but the ones that are caught here.
fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let hook = take_hook();
        set_hook(Box::new(move |info| {
            if !AT_RISK.get() {
                hook(info);
            }
        }));
    });
}

fn text_of(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_reason() {
        assert_eq!(caught("the page", || Ok(1)), Ok(1));
        assert_eq!(caught::<()>("the page", || Err("short".to_owned())), Err("short".to_owned()));
        let damaged = caught("the page", || Ok([1, 2][std::hint::black_box(2)]));
        let text = "the page is damaged (index out of bounds: the len is 2 but the index is 2)";
        assert_eq!(damaged, Err(text.to_owned()));
        assert!(!AT_RISK.get(), "what comes after is printed again");
    }
}
