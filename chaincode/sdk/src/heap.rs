//! The heap of a contract: a fixed part of the memory that every instance begins with, and more of it when that is used up.
//!
//! The standard library's heap begins with nothing, so that each call would ask for memory once: the peer would change the
//! protection of pages for it twice a call, on all its cores, which costs more than most contracts do.
#![expect(
    unsafe_code,
    reason = "an allocator hands out memory that nothing else may touch"
)]

use core::alloc::Layout;
use core::arch::wasm32::memory_grow;
use core::cell::UnsafeCell;

use talc::locking::AssumeUnlockable;
use talc::{OomHandler, Span, Talc, Talck};

/// Bytes that a contract begins with; most calls need no more.
const FIRST_BYTES: usize = 128 * 1024;
/// What the allocator needs for its own, and for the alignment of an allocation, at most.
const OVERHEAD_BYTES: usize = 4096;
const PAGE: usize = 64 * 1024;

#[global_allocator]
static HEAP: Talck<AssumeUnlockable, More> = Talc::new(More { begun: false }).lock();

#[repr(C, align(16))]
struct First(UnsafeCell<[u8; FIRST_BYTES]>);

// SAFETY: a contract has one thread, and only the allocator, which claims it once, touches the bytes.
unsafe impl Sync for First {}

static FIRST: First = First(UnsafeCell::new([0; FIRST_BYTES]));

/// Where more memory comes from.
struct More {
    begun: bool,
}

impl OomHandler for More {
    fn handle_oom(talc: &mut Talc<Self>, layout: Layout) -> Result<(), ()> {
        let span = if talc.oom_handler.begun {
            let bytes = layout.size().checked_add(layout.align()).ok_or(())?;
            let pages = bytes.checked_add(OVERHEAD_BYTES).ok_or(())?.div_ceil(PAGE);
            let before = memory_grow::<0>(pages);
            if before == usize::MAX {
                return Err(());
            }
            Span::from_base_size((before * PAGE) as *mut u8, pages * PAGE)
        } else {
            talc.oom_handler.begun = true;
            Span::from_base_size(FIRST.0.get().cast(), FIRST_BYTES)
        };
        // SAFETY: these bytes are the static ones, claimed once, or pages that were not there before.
        unsafe { talc.claim(span) }.map(|_| ())
    }
}
