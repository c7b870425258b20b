//! A program that is killed soon after each start: its log grows no longer for that.

use millstream_testkit::Fault;

use super::{FOLDER, SUMS, World, files, program, rows};

#[test]
fn the_log_of_a_program_that_is_killed_early_each_time_is_as_short_as_that_of_one_that_runs_on() {
    for batches in [0, 1] {
        let world = World::new();
        let mut most = 0;
        for life in 0..40 {
            let (ssc, clock) = world.begin(life * batches, &program).unwrap();
            world.go_on(&ssc, &clock, life * batches, (life + 1) * batches).unwrap();
            world.disk.crash(life.cast_unsigned());
            ssc.stop().ok();
            world.disk.restart();
            let logs = files(&world.disk).into_iter().filter(|file| file.starts_with(format!("{FOLDER}/log")));
            most = most.max(logs.count());
        }
        // A file of the log is begun by each start, and two checkpoint files are kept, each after three records.
        assert!(most <= 8, "{most} files of the log, with {batches} batches a life");
    }
}

/// Several starts that are each killed at once: every third of them writes a checkpoint file, and has the log cut behind it.
#[test]
fn a_fault_at_any_step_of_a_start_that_writes_a_checkpoint_file_loses_nothing() {
    let mut fired = 0;
    for fault in Fault::ALL {
        for n in 1.. {
            let world = World::new();
            world.live(0, 2, &program).unwrap();
            let mut given = world.take();
            let before = world.disk.operations().len() as u64;
            world.disk.fail_at(before + n, fault);
            for seed in 0..4 {
                let begun = world.begin(2, &program).and_then(|(ssc, clock)| {
                    let outcome = world.go_on(&ssc, &clock, 2, 2);
                    world.disk.crash(seed);
                    ssc.stop().ok();
                    outcome
                });
                world.disk.crash(seed);
                world.disk.restart();
                world.disk.make_room();
                drop(begun);
            }
            if world.disk.fired().is_empty() {
                break;
            }
            world.live(2, 5, &program).unwrap_or_else(|error| panic!("{fault:?} at {n}: {error}"));
            given.extend(world.take());
            given.dedup();
            assert_eq!(given, rows(&SUMS[..5]), "{fault:?} at {n}");
            fired += 1;
        }
    }
    assert!(fired > 100, "{fired}");
}
