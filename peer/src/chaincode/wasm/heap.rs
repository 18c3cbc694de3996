//! Memory that a compilation leaves behind.

/// Gives what is free in this process's heaps back to the system.
///
/// The compiler needs some 20 MB for a contract for half a second, in many small pieces that the C library would keep for
/// ever. Takes about a millisecond.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn give_back() {
    #[expect(
        unsafe_code,
        reason = "the function is foreign; it takes a plain number, may be called by any thread at any time, and touches \
                  only memory that is not allocated"
    )]
    // SAFETY: see the reason above.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other C libraries do so by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn give_back() {}
