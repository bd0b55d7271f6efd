//! The run: frames on the main thread and its crew, reloads on a thread of their own.

use std::error::Error;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use midflight::Runtime;

use crate::crew::with_crew;
use crate::memory::Footprint;
use crate::modules::Modules;
use crate::options::Options;
use crate::reloader::{Log, Order, Reloader};
use crate::report::{Percentiles, Results, touched};
use crate::systems::{Call, Ran, Schedule, VERSIONS, VersionSet, economy, movement, needs, traffic};
use crate::timeline::{Phase, STEP, Timeline};
use crate::world::City;

/// Frames with each round of versions before the clock starts.
const WARM_UP_FRAMES: u32 = 20;

/// One frame, as the main thread saw it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Frame {
    pub(crate) phase: Phase,
    /// When it was opened, since the clock started.
    pub(crate) at: Duration,
    /// From its opening to the end of the last lane's work.
    pub(crate) work: Duration,
}

/// Everything that was recorded.
pub(crate) struct Run {
    pub(crate) frames: Vec<Frame>,
    /// What each lane ran, by lane and frame.
    ran: Vec<Vec<Ran>>,
    pub(crate) log: Log,
    checksum: u64,
    reloads_due: u32,
    start: Footprint,
    end: Footprint,
}

/// Runs a city while its modules are replaced.
pub(crate) fn run(runtime: Runtime, modules: &Modules, options: &Options) -> Result<Run, Box<dyn Error>> {
    let &Options { agents, threads: lanes, seconds, reload_every, .. } = options;
    let timeline = |start| Timeline { start, seconds };
    let reloads_due = timeline(Instant::now()).reloads(reload_every);

    let room = (2 * WARM_UP_FRAMES * VERSIONS as u32 + (2 * seconds + 1) * 60) as usize;
    let mut frames: Vec<Frame> = touched(room);
    let ran: Vec<Mutex<Vec<Ran>>> = (0..lanes).map(|_| Mutex::new(touched(room))).collect();
    let mut city = City::new(agents, lanes);
    let schedule = Schedule::new(lanes);
    let reloads = AtomicU32::new(0);
    let (orders, inbox) = mpsc::channel();
    let (answers, done) = mpsc::channel();

    // One lane's part of a frame that the main thread opened: every call under it meets one
    // generation.
    let work = |lane: u32, (tick, frame): &(u32, midflight::SharedFrame)| {
        let frame = frame.join().expect("a lane has no frame of another generation open");
        let mut record = schedule.run(lane, *tick, &city, |call, slice, world, report| {
            // SAFETY: the world is the city's, and the schedule gives every element of it one
            // writer at a time.
            unsafe {
                match call {
                    Call::Need => needs::step(&frame, slice, world, report),
                    Call::Move => movement::step(&frame, slice, world, report),
                    Call::Trade => economy::trade(&frame, slice, world, report),
                    Call::Gather => traffic::gather(&frame, slice, world, report),
                    Call::Settle => economy::settle(&frame, slice, world, report),
                    Call::Spread => traffic::spread(&frame, slice, world, report),
                }
            }
        });
        record.generation = frame.generation();
        ran[lane as usize].lock().expect("a lane's records are its own").push(record);
    };

    let (log, start, end) = thread::scope(|scope| {
        // Owned here, so that an early return hangs up on the reloader and lets it go.
        let (orders, done) = (orders, done);
        let reloader = Reloader::new(runtime, modules, reload_every, reloads_due, &reloads);
        let reloader = thread::Builder::new()
            .name("reloader".into())
            .spawn_scoped(scope, move || reloader.work(&inbox, &answers))?;

        let (start, end) = with_crew(lanes, work, |crew| -> Result<_, Box<dyn Error>> {
            let mut frame = |phase, clock: Instant| {
                schedule.reset();
                let opened = Instant::now();
                let frame = runtime.frame();
                crew.run((frames.len() as u32, frame.share()));
                let work = opened.elapsed();
                drop(frame);
                frames.push(Frame { phase, at: opened.saturating_duration_since(clock), work });
                (frames.len(), work)
            };

            // Each version once, in peace. Before and after the run, so that memory is compared
            // where as much is held.
            let rounds =
                |frame: &mut dyn FnMut(Phase, Instant) -> (usize, Duration)| -> Result<(), Box<dyn Error>> {
                    for version in 1..=VERSIONS as u8 {
                        orders.send(Order::Round(version))?;
                        done.recv()??;
                        for _ in 0..WARM_UP_FRAMES {
                            frame(Phase::WarmUp, Instant::now());
                        }
                    }
                    Ok(())
                };
            rounds(&mut frame)?;
            let start = Footprint::now();
            let timeline = timeline(Instant::now());
            orders.send(Order::Run(timeline))?;
            let mut due = timeline.start;
            let mut said = 0;
            while let Some(phase) = timeline.phase(timeline.start.elapsed()) {
                let (count, work) = frame(phase, timeline.start);
                if timeline.start.elapsed().as_secs() > said {
                    said += 1;
                    let last = *ran[0].lock().expect("as above").last().expect("a frame has run");
                    progress(said, count, work, last, reloads.load(Relaxed));
                }
                // A step that is late is not made up for: the next one is due a step from now.
                due = (due + STEP).max(Instant::now());
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            rounds(&mut frame)?;
            // The reloader's orders are over.
            drop(orders);
            Ok((start, Footprint::now()))
        })?;
        let log = reloader.join().expect("a panic ends the process");
        Ok::<_, Box<dyn Error>>((log, start, end))
    })?;

    let ran = ran.into_iter().map(|lane| lane.into_inner().expect("as above")).collect();
    Ok(Run { frames, ran, log, checksum: city.checksum(), reloads_due, start, end })
}

fn progress(second: u64, frame: usize, work: Duration, ran: Ran, reloads: u32) {
    let versions = ran.set().map_or("mixed".into(), |[movement, traffic, economy, needs]| {
        format!("movement {movement}, traffic {traffic}, economy {economy}, needs {needs}")
    });
    let ms = work.as_secs_f64() * 1e3;
    eprintln!("{second:4} s  frame {frame:6}  {ms:6.2} ms  {reloads:5} reloads  {versions}");
}

impl Run {
    /// The versions of each frame, if no frame mixed any.
    pub(crate) fn versions(&self) -> Option<Vec<VersionSet>> {
        (0..self.frames.len()).map(|frame| self.set(frame)).collect()
    }

    /// The versions that a frame ran, if all lanes ran the same in every call, in one generation,
    /// and these are the versions that this generation was published with.
    fn set(&self, frame: usize) -> Option<VersionSet> {
        let first = self.ran.first()?.get(frame)?;
        let same = self.ran.iter().all(|lane| lane.get(frame) == Some(first));
        let set = first.set()?;
        (same && self.log.generations.get(&first.generation) == Some(&set)).then_some(set)
    }

    /// What it all comes to.
    pub(crate) fn results(&self, options: &Options, checksum_replay: Option<u64>) -> Results {
        let frames = |phase| self.frames.iter().filter(move |frame| frame.phase == phase);
        let ms = |phase| Percentiles::of(frames(phase).map(|frame| frame.work.as_secs_f64() * 1e3));
        let reloads = &self.log.reloads;
        Results {
            agents: options.agents,
            threads: options.threads,
            seconds: options.seconds,
            frames: self.frames.len(),
            frames_mixed: (0..self.frames.len()).filter(|&frame| self.set(frame).is_none()).count(),
            reloads: reloads.len(),
            reloads_due: self.reloads_due,
            reloads_several: reloads.iter().filter(|reload| reload.modules > 1).count(),
            reloads_failed: self.log.failed,
            checksum: self.checksum,
            checksum_replay,
            frame_ms: ms(Phase::Live),
            frame_ms_idle: ms(Phase::Idle),
            stage_us: Percentiles::of(reloads.iter().map(|reload| reload.stage.as_secs_f64() * 1e6)),
            publish_us: Percentiles::of(reloads.iter().map(|reload| reload.publish.as_secs_f64() * 1e6)),
            start: self.start,
            end: self.end,
            times: options.times,
        }
    }
}
