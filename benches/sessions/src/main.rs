//! What a session takes of the memory, and what looking at one costs each request.
//!
//! `sessions memory [COUNT]` fills a store with so many sessions, as an Usher finds them that starts, and tells by how much
//! that Usher's memory grew: in a file, or as Secrets with `--kubeconfig` and `--namespace`. `sessions check` does what each
//! request does to know who asks.

mod check;
mod memory;

use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// As usher has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// What sessions take of the memory.
    Memory {
        /// How many there are.
        #[arg(default_value_t = 100_000)]
        count: usize,
        /// In how many groups each of their owners is.
        #[arg(long, default_value_t = 3)]
        groups: usize,
        /// Where a cluster is, to keep them there.
        #[arg(long, requires = "namespace")]
        kubeconfig: Option<PathBuf>,
        /// In which namespace they are kept; nothing else should be.
        #[arg(long)]
        namespace: Option<String>,
    },
    /// What looking at one costs.
    Check {
        /// How many there are.
        #[arg(default_value_t = 100_000)]
        count: usize,
    },
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        match Arguments::parse().what {
            What::Memory { count, groups, kubeconfig, namespace } => {
                memory::measure(count, groups, kubeconfig, namespace).await
            }
            What::Check { count } => check::measure(count).await,
        }
    })
}
