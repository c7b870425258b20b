// State by key that is looked at where there is data, and its time-outs.
import static java.util.List.of;

import java.util.*;
import org.apache.spark.api.java.Optional;
import org.apache.spark.api.java.function.Function3;
import org.apache.spark.api.java.function.Function4;
import org.apache.spark.streaming.*;
import org.apache.spark.streaming.api.java.*;
import scala.Tuple2;

@SuppressWarnings("deprecation")
class MapWithState {
  static final String LETTERS = " | a=1 | a=1 b=1 | a=1 b=1 c=1 | a=1 b=1 | a=1 | ";
  static final String LEAVING = "a=1 b=1 c=1 | a=1 b=1 | a=1 | | | a=1 | | | | | a=1 | | | | | | | | | | | ";

  /** Adds up, and gives the sum so far. */
  static Tuple2<String, Integer> sum(String key, Optional<Integer> value, State<Integer> state) {
    int sum = value.orElse(0) + (state.exists() ? state.get() : 0);
    state.update(sum);
    return new Tuple2<>(key, sum);
  }

  /** The same, but tells of time-outs as a value below zero, and lets them be. */
  static Tuple2<String, Integer> sumOrTimeOut(String key, Optional<Integer> value, State<Integer> state) {
    return state.isTimingOut() ? new Tuple2<>(key, -state.get()) : sum(key, value, state);
  }

  /** Removes a state that exists, and sets one that does not. */
  static Tuple2<String, Boolean> toggle(String key, Optional<Integer> value, State<Integer> state) {
    boolean existed = state.exists();
    if (existed) state.remove();
    else state.update(value.get());
    return new Tuple2<>(key, existed);
  }

  /** Records what comes out and all states. */
  static void both(Run run, JavaMapWithStateDStream<String, Integer, Integer, ?> stream) {
    run.output(stream);
    run.output(stream.stateSnapshots());
  }

  static StateSpec<String, Integer, Integer, Tuple2<String, Integer>> sums() {
    Function3<String, Optional<Integer>, State<Integer>, Tuple2<String, Integer>> f = MapWithState::sum;
    return StateSpec.function(f);
  }

  static StateSpec<String, Integer, Integer, Tuple2<String, Integer>> sumsOrTimeOuts() {
    Function3<String, Optional<Integer>, State<Integer>, Tuple2<String, Integer>> f = MapWithState::sumOrTimeOut;
    return StateSpec.function(f);
  }

  static <E> StateSpec<String, Integer, Integer, E> timed(
      Function4<Time, String, Optional<Integer>, State<Integer>, Optional<E>> f) {
    return StateSpec.function(f);
  }

  static <E> StateSpec<String, Integer, Integer, E> plain(
      Function3<String, Optional<Integer>, State<Integer>, E> f) {
    return StateSpec.function(f);
  }

  static void runningSums(Run run) {
    run.checkpoints();
    both(run, run.pairs(LETTERS).mapWithState(sums()));
  }

  static void ofDuplicates(Run run) {
    run.checkpoints();
    both(run, run.pairs("a=1 a=1 a=1 b=1 | b=1 b=1 | | a=1 b=1").mapWithState(sums()));
  }

  static void ofSkew(Run run) {
    run.checkpoints();
    run.output(run.pairsOf(Pairs.skew()).mapWithState(sums()).stateSnapshots());
  }

  static void ofMissing(Run run) {
    run.checkpoints();
    both(run, run.pairs("- | a=1 | - | a=1 b=1 | - | -").mapWithState(sums()));
  }

  static void ofNothing(Run run) {
    run.checkpoints();
    both(run, run.pairs(" | | ").mapWithState(sums()));
  }

  static void toggles(Run run) {
    run.checkpoints();
    both(run, run.pairs(" | a=1 | a=1 b=1 | a=1 b=1 c=1 | a=1 b=1 c=1 | a=1 b=1 | a=1 | ")
        .mapWithState(plain(MapWithState::toggle)));
  }

  static void togglesInOneBatch(Run run) {
    run.checkpoints();
    both(run, run.pairs("a=1 a=1 | a=1 a=1 a=1 b=1 | | a=1 b=1 b=1").mapWithState(plain(MapWithState::toggle)));
  }

  static void withInitialState(Run run) {
    run.checkpoints();
    both(run, run.pairs(LETTERS).mapWithState(sums().initialState(run.rdd("a=5 b=10 c=-20 d=0"))));
  }

  static void withInitialStateAndNothing(Run run) {
    run.checkpoints();
    both(run, run.pairs(" | - | ").mapWithState(sums().initialState(run.rdd("a=5 b=10"))));
  }

  static void withInitialStateBeforeMissing(Run run) {
    run.checkpoints();
    both(run, run.pairs("- | a=1 | ").mapWithState(sums().initialState(run.rdd("a=5 b=10"))));
  }

  static void withTime(Run run) {
    run.checkpoints();
    both(run, run.pairs(LETTERS).mapWithState(timed((time, key, value, state) -> {
      state.update((int) time.milliseconds());
      return Optional.of(key + "@" + time.milliseconds());
    })));
  }

  static void withTimeAndNothingToGive(Run run) {
    run.checkpoints();
    both(run, run.pairs("a=1 b=2 | a=3 a=4 | b=5 | ").mapWithState(timed((time, key, value, state) -> {
      state.update(value.get());
      return value.get() % 2 == 0 ? Optional.of(value.get()) : Optional.empty();
    })));
  }

  static void givesNothingOfInterest(Run run) {
    run.checkpoints();
    both(run, run.pairs("a=1 b=2 | a=3 a=4 | b=5").mapWithState(plain((key, value, state) -> 0)));
  }

  static void readsButDoesNotUpdate(Run run) {
    run.checkpoints();
    both(run, run.pairs("a=1 b=2 | a=3 | c=5").mapWithState(
        MapWithState.<String>plain((key, value, state) -> key + (state.exists() ? state.get() : "?"))
            .initialState(run.rdd("a=7"))));
  }

  static void removesWhatIsNotThere(Run run) {
    run.checkpoints();
    both(run, run.pairs("a=1 | a=2").mapWithState(MapWithState.<Boolean>plain((key, value, state) -> {
      state.remove();
      return state.exists();
    })));
  }

  static void updatesTwice(Run run) {
    run.checkpoints();
    both(run, run.pairs("a=1 b=5 | a=2").mapWithState(MapWithState.<Integer>plain((key, value, state) -> {
      state.update(value.get());
      state.update(state.get() * 10);
      return state.get();
    })));
  }

  static void option(Run run) {
    run.checkpoints();
    both(run, run.pairs("a=1 b=5 | a=2 | b=0 | a=3").mapWithState(
        MapWithState.<Tuple2<String, Boolean>>plain((key, value, state) -> {
          boolean existed = state.getOption().isDefined();
          if (value.get() == 0) state.remove();
          else state.update(value.get());
          return new Tuple2<>(key, existed);
        })));
  }

  static void partitioned(Run run) {
    run.checkpoints();
    JavaMapWithStateDStream<String, Integer, Integer, Tuple2<String, Integer>> stream =
        run.pairs(LETTERS).mapWithState(sums().numPartitions(3));
    both(run, stream);
    run.action(stream, rdd -> of(rdd.getNumPartitions()));
    run.action(stream.stateSnapshots(), rdd -> of(rdd.getNumPartitions()));
  }

  static void partitionedBy(Run run) {
    run.checkpoints();
    JavaMapWithStateDStream<String, Integer, Integer, Tuple2<String, Integer>> stream =
        run.pairs(LETTERS).mapWithState(sums().partitioner(Run.hash(4)));
    both(run, stream);
    run.action(stream, rdd -> of(rdd.getNumPartitions()));
  }

  static void partitionedByDefault(Run run) {
    run.checkpoints();
    run.action(run.pairs(LETTERS).mapWithState(sums()), rdd -> of(rdd.getNumPartitions()));
  }

  // ---- time-outs ----

  static void timeOuts(Run run) {
    run.checkpoints();
    both(run, run.pairs(LEAVING).mapWithState(sumsOrTimeOuts().timeout(Run.seconds(3))));
  }

  static void timeOutsSeenOften(Run run) {
    run.checkpoints();
    JavaMapWithStateDStream<String, Integer, Integer, Tuple2<String, Integer>> stream =
        run.pairs(LEAVING).mapWithState(sumsOrTimeOuts().timeout(Run.seconds(3)));
    stream.checkpoint(Run.seconds(1));
    both(run, stream);
  }

  static void timeOutsSeenByTwo(Run run) {
    run.checkpoints();
    JavaMapWithStateDStream<String, Integer, Integer, Tuple2<String, Integer>> stream =
        run.pairs(LEAVING).mapWithState(sumsOrTimeOuts().timeout(Run.seconds(3)));
    stream.checkpoint(Run.seconds(2));
    both(run, stream);
  }

  static void timeOutsLongerThanTheInput(Run run) {
    run.checkpoints();
    both(run, run.pairs(LEAVING).mapWithState(sumsOrTimeOuts().timeout(Run.seconds(60))));
  }

  static void timeOutsAtTheirEdge(Run run) {
    run.checkpoints();
    run.batches(11);
    both(run, run.pairs(" | | | | f=1 | g=1 | h=1 | i=1 | j=1").mapWithState(sumsOrTimeOuts().timeout(Run.seconds(3))));
  }

  static void timeOutsOfTheInitialState(Run run) {
    run.checkpoints();
    run.batches(21);
    both(run, run.pairs(" | | b=1 | | | | | | b=1 ").mapWithState(
        sumsOrTimeOuts().initialState(run.rdd("a=5 b=10")).timeout(Run.seconds(5))));
  }

  static void timeOutsOfKeysWithData(Run run) {
    run.checkpoints();
    run.batches(12);
    both(run, run.pairs("a=1 b=1 | | | | | | | | | a=1").mapWithState(sumsOrTimeOuts().timeout(Run.seconds(3))));
  }

  static void timeOutsOfKeysThatAreRead(Run run) {
    run.checkpoints();
    run.batches(21);
    // Reading a state keeps it alive, if there is a time-out.
    both(run, run.pairs("a=1 b=1 | a=0 | a=0 | a=0 | a=0 | a=0 | a=0 | a=0 | a=0 | ").mapWithState(
        MapWithState.<Tuple2<String, Integer>>plain((key, value, state) -> {
          if (!state.isTimingOut() && !state.exists()) state.update(value.get());
          return new Tuple2<>(key, state.isTimingOut() ? -1 : state.get());
        }).timeout(Run.seconds(3))));
  }

  static void timeOutsWithTime(Run run) {
    run.checkpoints();
    run.batches(21);
    both(run, run.pairs("a=1 b=1 | a=1 | | | | | | | | c=1 | | c=1").mapWithState(
        MapWithState.<String>timed((time, key, value, state) -> {
          if (state.isTimingOut()) return Optional.of(key + " left at " + time.milliseconds() + " without a value");
          state.update(value.get());
          return Optional.empty();
        }).timeout(Run.seconds(3))));
  }

  static void timeOutsOfMissing(Run run) {
    run.checkpoints();
    run.batches(12);
    both(run, run.pairs("a=1 b=1 | - | - | - | - | - | - | - | - | - | - | -").mapWithState(
        sumsOrTimeOuts().timeout(Run.seconds(3))));
  }

  static void timeOutsAndReturns(Run run) {
    run.checkpoints();
    run.batches(22);
    both(run, run.pairs("a=1 b=1 | | | | | | | | | | a=2 | | b=3").mapWithState(
        sumsOrTimeOuts().timeout(Run.seconds(3))));
  }

  static void timeOutsOfRemoved(Run run) {
    run.checkpoints();
    run.batches(12);
    both(run, run.pairs("a=1 b=1 | a=1").mapWithState(
        MapWithState.<String>plain((key, value, state) -> {
          if (state.isTimingOut()) return key + " timed out";
          return toggle(key, value, state).toString();
        }).timeout(Run.seconds(3))));
  }

  // ---- mistakes ----

  static void getsWhatIsNotThere(Run run) {
    run.fails();
    run.checkpoints();
    run.output(run.pairs(" | a=1 | a=2").mapWithState(MapWithState.<Integer>plain((key, value, state) -> state.get())));
  }

  static void updatesWhatIsRemoved(Run run) {
    run.fails();
    run.checkpoints();
    run.output(run.pairs(" | a=1 | a=2").mapWithState(MapWithState.<Integer>plain((key, value, state) -> {
      state.remove();
      state.update(1);
      return 0;
    })));
  }

  static void removesTwice(Run run) {
    run.fails();
    run.checkpoints();
    run.output(run.pairs(" | a=1 | a=2").mapWithState(MapWithState.<Integer>plain((key, value, state) -> {
      state.update(1);
      state.remove();
      state.remove();
      return 0;
    })));
  }

  static void updatesWhileTimingOut(Run run) {
    run.fails();
    run.checkpoints();
    run.batches(11);
    run.output(run.pairs("a=1").mapWithState(sums().timeout(Run.seconds(3))));
  }

  static void removesWhileTimingOut(Run run) {
    run.fails();
    run.checkpoints();
    run.batches(11);
    run.output(run.pairs("a=1").mapWithState(MapWithState.<Integer>plain((key, value, state) -> {
      if (state.isTimingOut()) state.remove();
      else state.update(1);
      return 0;
    }).timeout(Run.seconds(3))));
  }

  // ---- beside others ----

  static void pastTheCheckpoint(Run run) {
    run.checkpoints();
    run.batches(24);
    both(run, run.pairs(LETTERS + "|" + LETTERS + "|" + LETTERS).mapWithState(sums()));
  }

  static void windowOfIt(Run run) {
    run.checkpoints();
    run.output(run.pairs(LETTERS).mapWithState(sums()).window(Run.seconds(2)));
  }

  static void ofWindow(Run run) {
    run.checkpoints();
    run.batches(8);
    both(run, run.pairs(LETTERS).window(Run.seconds(2), Run.seconds(2)).mapWithState(sums()));
  }

  static void ofSums(Run run) {
    run.checkpoints();
    both(run, run.pairs("a=1 a=1 b=1 | b=2 | a=1 a=5").reduceByKey(Integer::sum).mapWithState(sums()));
  }

  static void wordCount(Run run) {
    run.checkpoints();
    run.output(run.words("to be or | not to be | | - | be be be")
        .mapToPair(word -> new Tuple2<>(word, 1))
        .mapWithState(sums())
        .stateSnapshots());
  }

  static void snapshotsOnly(Run run) {
    run.checkpoints();
    run.output(run.pairs(LETTERS).mapWithState(sums()).stateSnapshots().filter(pair -> pair._2 > 1));
  }

  static void joinedWithItsSnapshots(Run run) {
    run.checkpoints();
    JavaPairDStream<String, Integer> pairs = run.pairs(LETTERS);
    run.output(pairs.join(pairs.mapWithState(sums()).stateSnapshots()));
  }
}
