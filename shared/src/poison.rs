//! Locks whose holders may have panicked.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock, also one of which a holder has panicked. Only for what each holder changes by one assignment, or by one call
/// on a map or a list: so a panic leaves nothing half done, and whoever comes next need not fail for it.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_whose_holder_panicked_is_taken() {
        let counted = Mutex::new(7);
        let panicked = std::panic::catch_unwind(|| {
            let _held = lock(&counted);
            panic!("while it holds the lock");
        });
        assert!(panicked.is_err() && counted.is_poisoned());
        *lock(&counted) += 1;
        assert_eq!(*lock(&counted), 8);
    }
}
