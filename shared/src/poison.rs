//! Locks whose holders may have panicked.

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Takes a lock, also one of which a holder has panicked. Only for what each holder changes by one assignment, or by one call
/// on a map or a list: so a panic leaves nothing half done, and whoever comes next need not fail for it.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a lock for reading, as [`lock`] does, and for what it is for.
pub fn read<T: ?Sized>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a lock for writing, as [`lock`] does, and for what it is for.
pub fn write<T: ?Sized>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
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

    #[test]
    fn a_lock_whose_writer_panicked_is_read_and_written() {
        let counted = RwLock::new(7);
        let panicked = std::panic::catch_unwind(|| {
            let _held = write(&counted);
            panic!("while it holds the lock");
        });
        assert!(panicked.is_err() && counted.is_poisoned());
        assert_eq!(*read(&counted), 7);
        *write(&counted) += 1;
        assert_eq!(*read(&counted), 8);
    }
}
