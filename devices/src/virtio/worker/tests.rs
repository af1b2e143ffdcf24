//! What a worker promises its handler and its driver.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use crate::Memory;
use crate::virtio::fake::Driver;
use crate::virtio::{Chain, Device, Facts, Fault, Handler, Part, Queue};

/// Parks its first queue, and gives back one chain of its second for each call.
struct Clerk {
    chain: Chain,
    calls: [Arc<AtomicUsize>; 2],
}

impl Handler for Clerk {
    fn kick(&mut self, index: usize, queues: &mut [Queue]) -> Result<(), Fault> {
        self.calls[index].fetch_add(1, Ordering::SeqCst);
        let popped = queues[index].pop(&mut self.chain)?;
        match (index, popped) {
            (0, true) => queues[0].unpop(),
            (1, true) => queues[1].push(&self.chain, 0)?,
            _ => {}
        }
        Ok(())
    }
}

fn open(memory: &Memory, calls: &[Arc<AtomicUsize>; 2]) -> Device {
    let facts = Facts {
        id: 42,
        name: "clerk".into(),
        features: 0,
        queue_sizes: vec![16, 256],
        config: Vec::new(),
    };
    let clerk = Clerk {
        chain: Chain::new(memory),
        calls: calls.clone(),
    };
    Device {
        facts,
        parts: vec![Part {
            queues: 0..2,
            handler: Box::new(clerk),
        }],
    }
}

#[test]
fn a_parked_queue_is_not_kicked_again_and_again() {
    let calls = <[Arc<AtomicUsize>; 2]>::default();
    let mut driver = Driver::start(|memory| open(memory, &calls));
    let page = driver.page();
    driver.submit(0, &[(page, 1)], &[]);
    for _ in 0..200 {
        driver.submit(1, &[(page, 1)], &[]);
        driver.completed(1);
    }
    // At most once when the worker found the chain, and once for the driver's kick.
    assert!(calls[0].load(Ordering::SeqCst) <= 2);
    assert_eq!(driver.used_index(0), 0);
}

#[test]
fn a_handler_that_stops_halfway_is_called_until_nothing_is_left() {
    let calls = <[Arc<AtomicUsize>; 2]>::default();
    let mut driver = Driver::attach(|memory| open(memory, &calls));
    let page = driver.page();
    driver.bring_up();
    driver.set_descriptor(1, 0, page, 1, 0, 0);
    driver.set_avail_index(1, 256);
    for _ in 0..256 {
        driver.completed(1);
    }
    assert_eq!(calls[1].load(Ordering::SeqCst), 256);
}

#[test]
fn chains_that_were_there_before_the_start_are_served() {
    let calls = <[Arc<AtomicUsize>; 2]>::default();
    let mut driver = Driver::attach(|memory| open(memory, &calls));
    let page = driver.page();
    driver.set_descriptor(1, 0, page, 1, 0, 0);
    driver.set_avail_index(1, 3);
    driver.bring_up();
    for _ in 0..3 {
        driver.completed(1);
    }
    assert_eq!(driver.used_index(1), 3);
}

#[test]
fn a_handler_goes_on_in_another_thread_with_what_it_has() {
    /// Gives each chain back, and notes which threads it has begun in, and whether it has ended.
    struct Wanderer {
        chain: Chain,
        threads: Arc<Mutex<Vec<ThreadId>>>,
        ends: Arc<AtomicUsize>,
    }
    impl Handler for Wanderer {
        fn start(&mut self, _: u64) -> anyhow::Result<()> {
            self.threads.lock().unwrap().push(thread::current().id());
            Ok(())
        }
        fn kick(&mut self, index: usize, queues: &mut [Queue]) -> Result<(), Fault> {
            while queues[index].pop(&mut self.chain)? {
                queues[index].push(&self.chain, 0)?;
            }
            Ok(())
        }
        fn stop(&mut self) {
            self.ends.fetch_add(1, Ordering::SeqCst);
        }
    }
    let (threads, ends) = (Arc::<Mutex<Vec<_>>>::default(), Arc::default());
    let mut driver = Driver::start(|memory| Device {
        parts: vec![Part {
            queues: 0..2,
            handler: Box::new(Wanderer {
                chain: Chain::new(memory),
                threads: Arc::clone(&threads),
                ends: Arc::clone(&ends),
            }),
        }],
        ..open(memory, &Default::default())
    });
    let page = driver.page();
    for _ in 0..3 {
        driver.submit(0, &[(page, 1)], &[]);
        driver.completed(0);
        driver.mmio.renew().unwrap();
    }
    driver.submit(1, &[(page, 1)], &[]);
    driver.completed(1);
    let threads = threads.lock().unwrap().clone();
    let others: HashSet<_> = threads.iter().collect();
    assert_eq!((threads.len(), others.len()), (4, 4));
    assert_eq!(ends.load(Ordering::SeqCst), 0);
    driver.reset();
    assert_eq!(ends.load(Ordering::SeqCst), 1);
}

#[test]
fn a_handler_that_cannot_start_makes_its_device_need_a_reset() {
    struct Broken;
    impl Handler for Broken {
        fn start(&mut self, _: u64) -> anyhow::Result<()> {
            anyhow::bail!("no luck")
        }
        fn kick(&mut self, _: usize, _: &mut [Queue]) -> Result<(), Fault> {
            Ok(())
        }
    }
    let calls = Default::default();
    let driver = Driver::start(|memory| Device {
        parts: vec![Part {
            queues: 0..2,
            handler: Box::new(Broken),
        }],
        ..open(memory, &calls)
    });
    driver.faulted();
    assert_eq!(driver.register(0x060), 2);
}

#[test]
fn a_handler_that_panics_takes_its_device_down_and_nothing_else() {
    struct Bomb;
    impl Handler for Bomb {
        fn kick(&mut self, _: usize, queues: &mut [Queue]) -> Result<(), Fault> {
            assert!(queues.is_empty(), "boom");
            Ok(())
        }
    }
    let calls = Default::default();
    let mut driver = Driver::start(|memory| Device {
        parts: vec![Part {
            queues: 0..2,
            handler: Box::new(Bomb),
        }],
        ..open(memory, &calls)
    });
    let page = driver.page();
    driver.submit(0, &[(page, 1)], &[]);
    driver.reset();
    assert_eq!(driver.status(), 0);
    driver.bring_up();
    driver.faulted();
}
