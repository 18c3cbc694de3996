//! Giving memory back that an idle process no longer needs.
//!
//! Every role is the same binary, and most of what an idle node holds is the code of its start: initialisers, the reading
//! of configuration and keys, the compiler of contracts. The kernel maps such pages again when they are run, from its file
//! cache, so that they may go; and so may what is free in the heap. Measured in docs/performance.md.

use std::time::Duration;

/// How often the keeper looks, and how long a process must have been idle.
const PERIOD: Duration = Duration::from_secs(1);
/// Processor time within a period below which a process counts as idle.
const IDLE: Duration = Duration::from_millis(20);
/// Processor time that makes it worth giving memory back again.
const WORTHWHILE: Duration = Duration::from_millis(50);

/// Gives memory back whenever the process has had work and is idle again, as long as the future is polled. To be run once
/// a process. Does nothing but on Linux.
pub async fn keep_memory_small() {
    let mut state = State::default();
    let Some(mut before) = system::processor_time() else {
        return;
    };
    loop {
        tokio::time::sleep(PERIOD).await;
        let Some(now) = system::processor_time() else {
            return;
        };
        if state.is_due(now.saturating_sub(before)) {
            give_memory_back();
        }
        before = now;
    }
}

/// Gives back what is free in the heaps and the pages of the program's own code, which come back as they are needed. Takes
/// about a millisecond, and may be called at any time.
pub fn give_memory_back() {
    system::trim_heap();
    system::forget_code();
}

/// What has been done since memory was given back.
struct State {
    worked: Duration,
}

impl Default for State {
    /// A process that has just started.
    fn default() -> Self {
        Self { worked: WORTHWHILE }
    }
}

impl State {
    /// Whether memory is to be given back, after a period in which the process used so much processor time.
    fn is_due(&mut self, used: Duration) -> bool {
        self.worked += used;
        let due = used < IDLE && self.worked >= WORTHWHILE;
        if due {
            self.worked = Duration::ZERO;
        }
        due
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod system {
    use std::time::Duration;

    /// Processor time of this process, user and system.
    pub(super) fn processor_time() -> Option<Duration> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        crate::process::cpu_seconds(&stat).map(Duration::from_secs_f64)
    }

    pub(super) fn trim_heap() {
        #[expect(
            unsafe_code,
            reason = "the function is foreign; it takes a plain number, may be called by any thread at any time, and \
                      touches only memory that is not allocated"
        )]
        // SAFETY: see the reason above.
        unsafe {
            libc::malloc_trim(0);
        }
    }

    pub(super) fn forget_code() {
        let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else {
            return;
        };
        let Ok(program) = std::fs::read_link("/proc/self/exe") else {
            return;
        };
        for (start, end) in super::code_of(&maps, &program.to_string_lossy()) {
            #[expect(
                unsafe_code,
                reason = "the range is a mapping of this program's own file that cannot be written, so that its pages \
                          hold what the file holds, and the kernel reads them again when they are used"
            )]
            // SAFETY: see the reason above; a range that is none is refused by the kernel.
            unsafe {
                libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED);
            }
        }
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod system {
    pub(super) fn processor_time() -> Option<std::time::Duration> {
        None
    }

    pub(super) fn trim_heap() {}

    pub(super) fn forget_code() {}
}

/// The mappings of `program` in `/proc/<pid>/maps` that are its code: executable and not writable, so that no page differs
/// from the file. (What only may be read will not do: relocated tables were written before they were protected.)
#[cfg(any(test, all(target_os = "linux", target_env = "gnu")))]
fn code_of(maps: &str, program: &str) -> Vec<(usize, usize)> {
    maps.lines()
        .filter_map(|line| {
            let (range, rest) = line.split_once(' ')?;
            if !rest.starts_with("r-xp ") || !rest.ends_with(&format!(" {program}")) {
                return None;
            }
            let (start, end) = range.split_once('-')?;
            let start = usize::from_str_radix(start, 16).ok()?;
            let end = usize::from_str_radix(end, 16).ok()?;
            (start < end).then_some((start, end))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_programs_code_is_forgotten() {
        let maps = "\
00400000-00500000 r--p 00000000 fe:00 1 /usr/bin/node
00500000-00900000 r-xp 00100000 fe:00 1 /usr/bin/node
00900000-00910000 rw-p 00500000 fe:00 1 /usr/bin/node
00a00000-00b00000 rwxp 00000000 fe:00 1 /usr/bin/node
7f000000-7f100000 r-xp 00000000 fe:00 2 /usr/lib/libc.so.6
7f200000-7f201000 r-xp 00000000 00:00 0 [vdso]
";
        assert_eq!(code_of(maps, "/usr/bin/node"), [(0x0050_0000, 0x0090_0000)]);
        assert!(code_of("nonsense\n1-2\n", "/usr/bin/node").is_empty());
    }

    #[test]
    fn memory_is_given_back_once_after_work() {
        let mut state = State::default();
        let millis = Duration::from_millis;
        assert!(!state.is_due(millis(500)), "at work");
        assert!(state.is_due(millis(1)), "the start is work");
        assert!(!state.is_due(millis(1)), "nothing has been done since");
        assert!(!state.is_due(millis(19)));
        assert!(!state.is_due(millis(19)));
        assert!(state.is_due(millis(19)), "little by little it was much");
    }

    #[test]
    fn the_program_goes_on_afterwards() {
        let text: String = (0..1000).map(|i| i.to_string()).collect();
        give_memory_back();
        assert_eq!(text, (0..1000).map(|i| i.to_string()).collect::<String>());
    }
}
