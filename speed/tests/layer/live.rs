//! The real-time view in memory: the contract, and a property test against what must be there.

use std::sync::Arc;

use proptest::prelude::*;
use tidemark_shared::live::{LiveError, LiveUsage, LiveView};
use tidemark_speed::live::memory::{MemoryView, MemoryViewSettings};
use tidemark_testing::contract::live::{self as contract, batch, check_moment, coverage, partition, ranges};

fn memory(bytes_max: u64) -> Arc<dyn LiveView> {
    let settings = MemoryViewSettings { bytes_max, scan_parts: 3 };
    Arc::new(MemoryView::new(settings))
}

#[tokio::test]
async fn h3_h4_h6_h7_the_view_in_memory_keeps_the_contract() {
    contract::check_all(&memory(64 << 20)).await;
}

#[tokio::test]
async fn a_full_view_refuses_and_frees() {
    contract::check_full(&memory(1 << 20)).await;
}

#[derive(Debug, Clone)]
enum Step {
    /// A batch that begins so far from the visible position and has so many offsets.
    Apply { partition: u32, from: i64, offsets: u64 },
    /// A coverage so far from the floors.
    Drop { by: [u64; 2] },
    /// Remembers a moment.
    Pin,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..2_u32, -20..3_i64, prop_oneof![0..40_u64, 1_500..6_000_u64])
            .prop_map(|(partition, from, offsets)| Step::Apply { partition, from, offsets }),
        2 => [0..90_u64, 0..4_000_u64].prop_map(|by| Step::Drop { by }),
        1 => Just(Step::Pin),
    ]
}

async fn play(steps: Vec<Step>) {
    let live = memory(64 << 20);
    let view = contract::view("property");
    live.open(&view, &contract::schema(), &coverage(&[100, 0])).await.unwrap();
    let mut model = [(100_u64, 100_u64), (0, 0)];
    let mut pins = Vec::new();
    for step in steps {
        match step {
            Step::Apply { partition: number, from, offsets } => {
                let (_, visible) = &mut model[number as usize];
                let start = visible.saturating_add_signed(from);
                let range = start..start + offsets;
                let outcome = live.apply(&view, batch(&partition(number), range.clone())).await;
                if start > *visible {
                    assert!(matches!(outcome, Err(LiveError::Gap { .. })), "{outcome:?}");
                } else {
                    outcome.unwrap();
                    *visible = range.end.max(*visible);
                }
            }
            Step::Drop { by } => {
                let ends = [model[0].0 + by[0], model[1].0 + by[1]];
                live.drop_below(&view, &coverage(&ends)).await.unwrap();
                for ((floor, visible), end) in model.iter_mut().zip(ends) {
                    (*floor, *visible) = (end, end.max(*visible));
                }
            }
            Step::Pin => pins.push((live.pin(&view).await.unwrap().unwrap(), model)),
        }
    }
    pins.push((live.pin(&view).await.unwrap().unwrap(), model));
    for (pin, model) in pins {
        check_moment(&pin, &ranges(&model)).await;
    }
    live.close(&view).await.unwrap();
    assert_eq!(live.usage(), LiveUsage::default());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_moment_holds_what_was_applied_and_not_dropped(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(play(steps));
    }
}
