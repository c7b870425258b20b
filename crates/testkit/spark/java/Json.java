// JSON, as compact as a person can still read it: a line for each stream that goes in or comes out.
import java.util.*;
import java.util.stream.*;
import org.apache.spark.api.java.Optional;
import scala.Product;
import scala.jdk.javaapi.CollectionConverters;

class Json {
  /** Writes a family: what each program, on each number of partitions, was given and gave. */
  static String file(String version, Map<String, Map<Integer, Recorded>> programs) {
    String body = programs.entrySet().stream()
        .map(program -> of(program.getKey()) + ": " + program(program.getValue()))
        .collect(Collectors.joining(",\n"));
    return "{\n\"spark\": " + of(version) + ",\n\"programs\": {\n" + body + "\n}\n}\n";
  }

  /** Writes a program: what it gave once, if the number of partitions makes no difference. */
  private static String program(Map<Integer, Recorded> runs) {
    Recorded any = runs.values().iterator().next();
    List<String> fields = new ArrayList<>();
    fields.add("\"in\": " + lines(any.inputs.stream().map(Json::of)));
    Set<String> different = runs.values().stream().map(Json::gave).collect(Collectors.toCollection(LinkedHashSet::new));
    if (different.size() == 1) fields.add(different.iterator().next());
    else runs.forEach((partitions, run) -> fields.add("\"on " + partitions + "\": {" + gave(run) + "}"));
    return "{" + String.join(", ", fields) + "}";
  }

  private static String gave(Recorded run) {
    String fails = run.fails == null ? "" : ", \"fails\": " + of(run.fails);
    return "\"out\": " + lines(run.outputs.stream().map(Json::output)) + fails;
  }

  private static String output(Recorded.Output output) {
    String batches = output.batches.stream()
        .map(batch -> batch == null ? "null" : "[" + String.join(",", batch) + "]")
        .collect(Collectors.joining(","));
    return "{\"" + (output.inOrder ? "in order" : "any order") + "\": [" + batches + "]}";
  }

  private static String lines(Stream<String> items) {
    return items.collect(Collectors.joining(",\n    ", "[\n    ", "]"));
  }

  /** Writes an element: tuples and lists are arrays, an absent value is null. */
  static String of(Object value) {
    if (value == null) return "null";
    if (value instanceof Optional) return of(((Optional<?>) value).orNull());
    if (value instanceof Product) return array(CollectionConverters.asJava(((Product) value).productIterator()));
    if (value instanceof Iterable) return array(((Iterable<?>) value).iterator());
    if (value instanceof Number || value instanceof Boolean) return value.toString();
    if (value instanceof String) return text((String) value);
    throw new IllegalArgumentException("there is no JSON for a " + value.getClass());
  }

  private static String array(Iterator<?> items) {
    StringJoiner array = new StringJoiner(",", "[", "]");
    while (items.hasNext()) array.add(of(items.next()));
    return array.toString();
  }

  private static String text(String text) {
    StringBuilder json = new StringBuilder("\"");
    for (char c : text.toCharArray()) {
      if (c == '"' || c == '\\') json.append('\\').append(c);
      else if (c < ' ') json.append(String.format("\\u%04x", (int) c));
      else json.append(c);
    }
    return json.append('"').toString();
  }
}
