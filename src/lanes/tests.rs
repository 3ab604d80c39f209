use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use super::*;

const SOON: Duration = Duration::from_secs(10);

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// A lane whose thread waits in its first turn until the sender is dropped.
fn stuck_lane(limit: usize) -> (Lane<u32>, mpsc::Sender<()>, Receiver<u32>) {
    let (release, released) = channel();
    let (done, did) = channel();
    let (enter, entered) = channel();
    let lane = Lane::start("stuck", limit, released, move |released: &mut Receiver<()>, job| {
        let _ = enter.send(());
        let _ = released.recv();
        let _ = done.send(job);
    })
    .unwrap();
    lane.try_send(0).unwrap();
    entered.recv_timeout(SOON).unwrap();
    (lane, release, did)
}

#[test]
fn a_full_lane_gives_the_job_back_and_counts_it() {
    let (lane, release, did) = stuck_lane(2);
    // Being idle is a turn too, where the thread came to that before the first job.
    let before = lane.last_turn();
    lane.try_send(1).unwrap();
    lane.try_send(2).unwrap();
    let refused = lane.try_send(3).unwrap_err();
    assert_eq!((refused.job, refused.fault.code), (3, FaultCode::Exhausted));
    assert_eq!((lane.queued(), lane.limit(), lane.dropped()), (2, 2, 1));
    assert_eq!(lane.last_turn(), before, "the first job is still under way");
    assert!(lane.busy_for(Mono::now()).is_some());

    drop(release);
    block_on(lane.close(SOON)).unwrap();
    // What was queued before the close is done, in order.
    assert_eq!(did.iter().collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(lane.queued(), 0);
    assert!(lane.last_turn() > before && lane.busy_for(Mono::now()).is_none());
    assert_eq!(lane.try_send(4).unwrap_err().fault.code, FaultCode::Cancelled);
}

#[test]
fn closing_a_hung_lane_ends_at_the_deadline() {
    let (lane, _release, _did) = stuck_lane(1);
    let began = Instant::now();
    let fault = block_on(lane.close(Duration::from_millis(50))).unwrap_err();
    assert_eq!(fault.code, FaultCode::Hung);
    assert!(began.elapsed() < SOON);
}

#[test]
fn a_lane_survives_a_panicking_job_and_answers_the_next() {
    type Job = (u32, oneshot::Sender<u32>);
    let lane = Lane::start("sums", 4, 0u32, |sum: &mut u32, (add, answer): Job| {
        assert!(add != 13, "thirteen");
        *sum += add;
        let _ = answer.send(*sum);
    })
    .unwrap();
    block_on(async {
        assert_eq!(lane.ask(SOON, |answer| (1, answer)).await, Ok(1));
        let fault = lane.ask(SOON, |answer| (13, answer)).await.unwrap_err();
        assert_eq!(fault.code, FaultCode::Panicked);
        assert_eq!(lane.ask(SOON, |answer| (2, answer)).await, Ok(3));
        assert_eq!(lane.panics(), 1);
        lane.close(SOON).await.unwrap();
        lane.close(SOON).await.unwrap();
    });
}

#[test]
fn an_unanswered_question_ends_at_its_deadline() {
    let (release, released) = channel::<()>();
    let lane =
        Lane::start("slow", 1, released, |released: &mut Receiver<()>, _: oneshot::Sender<()>| {
            let _ = released.recv();
        })
        .unwrap();
    let fault = block_on(lane.ask(Duration::from_millis(20), |answer| answer)).unwrap_err();
    assert_eq!(fault.code, FaultCode::Hung);
    drop(release);
}

#[test]
fn a_hung_cell_costs_one_thread_and_refuses_the_second() {
    let cells = Cells::new();
    let (release, released) = channel::<()>();
    let short = Duration::from_millis(20);
    let first = cells.run_blocking("/mnt/dead", short, move || released.recv().is_ok());
    assert_eq!(first.unwrap_err().code, FaultCode::Hung);
    for _ in 0..3 {
        let again = block_on(cells.run("/mnt/dead", short, || ()));
        assert_eq!(again.unwrap_err().code, FaultCode::Hung);
    }
    assert_eq!((cells.in_use(), cells.hung(Mono::now())), (1, 1));
    assert!(cells.busy_for("/mnt/dead", Mono::now()).is_some_and(|busy| busy >= short));
    // Other resources are not held up.
    assert_eq!(block_on(cells.run("/mnt/live", SOON, || 7)), Ok(7));

    drop(release);
    while cells.in_use() > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(cells.run_blocking("/mnt/dead", SOON, || 8), Ok(8));
}

#[test]
fn cells_are_bounded_and_a_panic_stays_in_its_cell() {
    let cells = Cells::new();
    let (release, released) = channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let hang: Rounds = Arc::new(move || {
        let _ = locked(&released).recv();
    });
    for index in 0..CELLS_LIMIT {
        let resource = Arc::from(format!("mount {index}"));
        assert_eq!(cells.post(&resource, SOON, &hang), Ok(true));
        assert_eq!(cells.post(&resource, SOON, &hang), Ok(false));
    }
    let over = cells.run_blocking("one too many", SOON, || ()).unwrap_err();
    assert_eq!(over.code, FaultCode::Exhausted);
    drop(release);
    while cells.in_use() > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let fault = cells.run_blocking("broken", SOON, || -> u8 { panic!("broken") }).unwrap_err();
    assert_eq!(fault.code, FaultCode::Panicked);
    // Who has the answer may ask again at once, also for what panicked.
    for n in 0..200 {
        assert_eq!(cells.run_blocking("broken", SOON, move || n), Ok(n));
        let fault = cells.run_blocking("broken", SOON, || -> u8 { panic!("broken") }).unwrap_err();
        assert_eq!(fault.code, FaultCode::Panicked);
    }
}

#[test]
fn repeated_work_reuses_its_thread() {
    let cells = Cells::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&seen);
    let work: Rounds = Arc::new(move || locked(&kept).push(std::thread::current().id()));
    let resource: Arc<str> = Arc::from("statfs");
    for round in 1..=20 {
        assert_eq!(cells.post(&resource, SOON, &work), Ok(true));
        while cells.in_use() > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        // The thread counts as waiting a moment after its work has ended.
        while locked(&cells.shared.state).idle == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(locked(&seen).len(), round);
    }
    locked(&seen).dedup();
    assert_eq!(locked(&seen).len(), 1);
}

#[test]
fn what_is_queued_shares_a_cell_and_waits_for_the_next_wake_behind_one_that_hangs() {
    let cells = Cells::new();
    let (release, released) = channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let hang: Rounds = {
        let seen = Arc::clone(&seen);
        Arc::new(move || {
            locked(&seen).push(std::thread::current().id());
            let _ = locked(&released).recv();
        })
    };
    let note: Rounds = {
        let seen = Arc::clone(&seen);
        Arc::new(move || locked(&seen).push(std::thread::current().id()))
    };
    let [a, b, c]: [Arc<str>; 3] = ["a", "b", "c"].map(Arc::from);
    let busy = |resource: &Arc<str>| cells.busy_for(resource, Mono::now()).is_some();
    let done = |count: usize| {
        while locked(&seen).len() < count || busy(&b) || busy(&c) {
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    assert_eq!(cells.queue(&a, SOON, &note), Ok(true));
    assert_eq!(cells.queue(&a, SOON, &note), Ok(false));
    assert_eq!(cells.queue(&b, SOON, &note), Ok(true));
    std::thread::sleep(Duration::from_millis(20));
    assert!(locked(&seen).is_empty(), "nobody was woken up");
    cells.wake();
    done(2);
    while busy(&a) {
        std::thread::sleep(Duration::from_millis(1));
    }
    {
        let mut seen = locked(&seen);
        assert_eq!(seen[0], seen[1]);
        seen.clear();
    }

    assert_eq!(cells.queue(&a, SOON, &hang), Ok(true));
    assert_eq!(cells.queue(&b, SOON, &note), Ok(true));
    cells.wake();
    while locked(&seen).is_empty() {
        std::thread::sleep(Duration::from_millis(1));
    }
    // What is posted has a thread of its own, which then takes what is queued too.
    assert_eq!(cells.post(&c, SOON, &note), Ok(true));
    done(3);
    {
        let seen = locked(&seen);
        assert!(seen[0] != seen[1] && seen[1] == seen[2]);
    }
    assert_eq!(cells.queue(&b, SOON, &note), Ok(true));
    cells.wake();
    done(4);
    drop(release);
}
