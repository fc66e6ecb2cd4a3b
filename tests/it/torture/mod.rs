//! The real process, tortured: `hikyaku run` between carriers and clients that write down what
//! they saw, while it is killed, frozen, starved of disk and memory, exchanged, given other
//! configurations and wrong clocks, and cut off; handsets write to it meanwhile.
//!
//! Everything that is done to it, and when, is drawn from a seed; how the process and the machine
//! answer is not, so a seed repeats the torture and not the run. At the end the books are
//! reconciled, and every difference is told ([`books`]). Nothing is asserted about time.
//!
//! A process reads the wall clock when it starts and never again, so that is when the clock is
//! wrong, by seconds either way.
//!
//! `cargo test` runs about a minute of it. By hand, for longer and with a seed:
//!
//! ```console
//! HIKYAKU_TORTURE=1h HIKYAKU_TORTURE_SEED=7 cargo test --test it torture -- --nocapture
//! ```
#![expect(
    clippy::disallowed_methods,
    reason = "the harness is a process of its own: it waits, reads the clock and starts tasks"
)]
#![expect(clippy::print_stdout, reason = "a run tells what was done and what came of it")]

mod books;
mod clients;
mod draw;
mod ground;
mod handsets;
mod hooks;
mod plan;
mod proxy;
mod reader;
mod run;
mod settings;

use std::thread::sleep;
use std::time::Duration;

use self::clients::Manner;
use self::draw::Draws;
use self::ground::Ground;
use self::hooks::Mood;
use self::plan::Ill;
use self::plan::Plan;
use self::run::Books;
use self::run::Run;

/// Tells what came of a run, and fails when the books differ.
fn judge(run: &Run, seed: u64, books: &Books) {
    let account = books::reconcile(&run.client, books);
    println!("torture: {}\n{account}", run.told());
    let mut differences = account.differences;
    differences.extend(books.stuck.iter().map(|left| format!("it never comes to its end: {left}")));
    differences.extend(run.improper());
    if differences.is_empty() {
        return;
    }
    let (count, kept) = (differences.len(), run.keep(seed));
    differences.truncate(40);
    panic!(
        "{count} differences, the first of them:\n{}\nHIKYAKU_TORTURE_SEED={seed} repeats the \
         torture; the data is kept in {}\n{}",
        differences.join("\n"),
        kept.display(),
        run.said()
    );
}

#[test]
fn the_books_agree_whatever_is_done_to_the_process() {
    let mut plan = Plan::asked();
    println!("torture: {plan}");
    let mut run = Run::new(Ground::new(), plan.draws.fork());
    let (desk, reader) = run.open();
    run.suffer(&plan, &desk);
    let books = run.close(desk, reader);
    judge(&run, plan.seed, &books);
}

#[test]
fn a_dead_endpoint_slows_nobody_and_is_told_all_in_order_afterwards() {
    let mut run = Run::new(Ground::new(), Draws::new(1));
    let (desk, reader) = run.open();
    run.hooks[1].feel(Mood::Dead);
    let clients: Vec<_> = (0..4).map(|n| desk.staff(Manner::Steady, Draws::new(n))).collect();
    while desk.accepted() < 200 {
        sleep(Duration::from_millis(10));
    }
    desk.close();
    clients.into_iter().for_each(|client| client.join().unwrap());
    // Every message ends and the other endpoint hears of it while this one is dead.
    while run.metric("hikyaku_live_messages") != Some(0)
        || run.hooks[0].book().taken < reader.count()
        || run.hooks[1].calls() == 0
    {
        sleep(Duration::from_millis(50));
    }
    assert_eq!(run.hooks[1].book().taken, 0, "it is dead");
    run.hooks[1].feel(Mood::Well);
    let books = run.close(desk, reader);
    judge(&run, 1, &books);
}

#[test]
fn the_books_agree_where_no_disk_can_be_mounted_and_files_do_not_grow() {
    let mut run = Run::new(Ground::unmounted(), Draws::new(2));
    let (desk, reader) = run.open();
    let clients: Vec<_> = (0..4).map(|n| desk.staff(Manner::Steady, Draws::new(n))).collect();
    // Not even the log grows: who sees it are the clients.
    for (accepted, is_killed) in [(50, false), (100, true)] {
        run.until(|_| desk.accepted() >= accepted);
        let refused = desk.refused_for_the_disk();
        run.begin(Ill::Full);
        run.until(|_| desk.refused_for_the_disk() > refused);
        if is_killed {
            let seen = desk.refused_for_the_disk() + run.vain_starts();
            run.fell();
            run.until(|run| desk.refused_for_the_disk() + run.vain_starts() > seen);
        }
        run.end(Ill::Full);
    }
    run.until(|_| desk.accepted() >= 200);
    desk.close();
    run.until_done(clients);
    let books = run.close(desk, reader);
    judge(&run, 2, &books);
}
