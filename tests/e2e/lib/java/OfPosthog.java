import com.posthog.java.PostHog;
import java.util.Map;

public class OfPosthog implements Driver.Sdk {
    private final PostHog posthog;

    OfPosthog(String url, String token) {
        posthog = new PostHog.Builder(token).host(url).build();
    }

    public void track(String user, String name, Map<String, Object> properties) {
        posthog.capture(user, name, properties);
    }

    public void identify(String user, Map<String, Object> properties) {
        posthog.set(user, properties);
    }

    public void group(String user, String group, Map<String, Object> properties) {
        throw new UnsupportedOperationException();
    }

    public void end() {
        posthog.shutdown();
    }

    public static void main(String[] args) throws Exception {
        Driver.run(new OfPosthog(args[1], args[2]));
    }
}
