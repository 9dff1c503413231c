// One of Java's SDKs, driven over standard input as in sdk_driver.py; each SDK is a class of its own, since each has its own libraries.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

public class Driver {
    interface Sdk {
        void track(String user, String name, Map<String, Object> properties) throws Exception;

        void identify(String user, Map<String, Object> properties) throws Exception;

        void group(String user, String group, Map<String, Object> properties) throws Exception;

        void end() throws Exception;
    }

    /* The calls are flat and without escapes. */
    private static String field(String line, String name) {
        Matcher found = Pattern.compile("\"" + name + "\":\"([^\"]*)\"").matcher(line);
        return found.find() ? found.group(1) : "";
    }

    static void run(Sdk sdk) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            Map<String, Object> properties = Map.of("plan", field(line, "plan"), "email", field(line, "email"));
            String user = field(line, "user");
            try {
                switch (field(line, "do")) {
                    case "track" -> sdk.track(user, field(line, "name"), properties);
                    case "identify" -> sdk.identify(user, properties);
                    default -> sdk.group(user, field(line, "group"), properties);
                }
                System.out.println("ok");
            } catch (Exception error) {
                System.out.println("raised " + error.getClass().getName());
            }
        }
        sdk.end();
        System.out.println("end");
        System.exit(0);
    }
}
