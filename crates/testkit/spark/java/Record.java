// Records what Apache Spark Streaming says: runs small programs on it, writes what they were given and what they gave.
//
// usage: Record FOLDER [PROGRAM]
//
// A family is a class; each of its static methods that takes a Run is a program, recorded under its name in snake case.
// Each program runs twice, on 1 and on 7 partitions, a batch a second by Spark's own manual clock, from time 0. A
// family becomes one file of JSON; recording again gives the same file. With a program's name, only that one runs, and
// is printed instead.
import java.lang.reflect.*;
import java.nio.file.*;
import java.util.*;
import java.util.stream.Stream;
import org.apache.spark.SparkConf;
import org.apache.spark.api.java.JavaSparkContext;

public class Record {
  static final int[] PARTITIONS = {1, 7};
  static final List<Class<?>> FAMILIES = List.of(
      Elements.class, Pairs.class, Joins.class, Windows.class, InverseWindows.class, UpdateState.class,
      MapWithState.class, Rdds.class, PairRdds.class, Queues.class);

  public static void main(String[] args) throws Exception {
    Path folder = Path.of(args[0]);
    String only = args.length > 1 ? args[1] : null;
    Path scratch = Files.createTempDirectory("record-spark");
    // Family, program, number of partitions: what came of it.
    Map<String, Map<String, Map<Integer, Recorded>>> all = new TreeMap<>();
    String version = "";
    for (int partitions : PARTITIONS) {
      JavaSparkContext sc = new JavaSparkContext(new SparkConf()
          .setMaster("local[2]")
          .setAppName("record")
          .set("spark.ui.enabled", "false")
          .set("spark.default.parallelism", "" + partitions)
          .set("spark.streaming.clock", "org.apache.spark.util.ManualClock"));
      version = sc.version();
      // Some programs are there to fail; their errors are of interest only when one asks for them.
      if (only == null) sc.setLogLevel("OFF");
      for (Class<?> family : FAMILIES) {
        Map<String, Map<Integer, Recorded>> programs =
            all.computeIfAbsent(snake(family.getSimpleName()), name -> new TreeMap<>());
        for (Method program : family.getDeclaredMethods()) {
          String name = snake(program.getName());
          if (!isProgram(program) || (only != null && !only.equals(name))) continue;
          Path checkpoints = scratch.resolve(partitions + "-" + family.getSimpleName() + "-" + name);
          Map<Integer, Recorded> runs = programs.computeIfAbsent(name, key -> new TreeMap<>());
          try {
            runs.put(partitions, new Run(sc, partitions, checkpoints).record(run -> call(program, run)));
          } catch (Exception e) {
            throw new IllegalStateException(family.getSimpleName() + "." + program.getName() + " on " + partitions, e);
          }
        }
        System.err.println(family.getSimpleName() + " on " + partitions + ": " + programs.size() + " programs");
      }
      sc.stop();
    }
    for (Map.Entry<String, Map<String, Map<Integer, Recorded>>> family : all.entrySet()) {
      String text = Json.file(version, family.getValue());
      if (only == null) Files.writeString(folder.resolve(family.getKey() + ".json"), text);
      else if (!family.getValue().isEmpty()) System.out.print(text);
    }
    try (Stream<Path> paths = Files.walk(scratch)) {
      paths.sorted(Comparator.reverseOrder()).forEach(path -> path.toFile().delete());
    }
    System.exit(0);
  }

  static boolean isProgram(Method method) {
    return !method.isSynthetic() && Modifier.isStatic(method.getModifiers())
        && Arrays.equals(method.getParameterTypes(), new Class<?>[] {Run.class});
  }

  static void call(Method program, Run run) throws Exception {
    try {
      program.invoke(null, run);
    } catch (InvocationTargetException e) {
      if (e.getCause() instanceof Exception) throw (Exception) e.getCause();
      throw e;
    }
  }

  static String snake(String name) {
    return name.replaceAll("(?<=.)([A-Z])", "_$1").toLowerCase(Locale.ROOT);
  }
}
