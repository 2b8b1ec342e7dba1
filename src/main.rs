//! The program: the allocator, and the command line.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    // The allocator asks for huge pages, which the kernel then fills with zeros whether they are used or not: a load spends
    // a third of its time on that. Where it can't be turned off, that is all that is lost.
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_thp_disable(true).ok();
    retally::cli::main()
}
