//! Memory that the C library would keep for itself.
//!
//! A buffer's files are read in pieces of megabytes at start, and requests of many devices are decoded at once. By default
//! glibc keeps such pieces once they are free, and several heaps of them: half of what a gateway with 100,000 requests takes.

/// Lets the C library keep one heap, and give what is free in it back soon. To be called before there are other threads.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn keep_small() {
    const KEPT_BYTES: libc::c_int = 128 * 1024;
    for (setting, value) in [
        (libc::M_ARENA_MAX, 1),
        (libc::M_MMAP_THRESHOLD, KEPT_BYTES),
        (libc::M_TRIM_THRESHOLD, KEPT_BYTES),
    ] {
        #[expect(
            unsafe_code,
            reason = "the function is foreign; it takes plain numbers, and no other thread runs yet"
        )]
        // SAFETY: see the reason above. One that is refused changes nothing.
        unsafe {
            libc::mallopt(setting, value);
        }
    }
}

/// Other C libraries do so by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn keep_small() {}
