import com.rudderstack.sdk.java.analytics.RudderAnalytics;
import com.rudderstack.sdk.java.analytics.messages.GroupMessage;
import com.rudderstack.sdk.java.analytics.messages.IdentifyMessage;
import com.rudderstack.sdk.java.analytics.messages.TrackMessage;
import java.util.Map;

public class OfRudder implements Driver.Sdk {
    private final RudderAnalytics analytics;

    OfRudder(String url, String token) {
        analytics = RudderAnalytics.builder(token).setDataPlaneUrl(url).flushQueueSize(4).build();
    }

    public void track(String user, String name, Map<String, Object> properties) {
        analytics.enqueue(TrackMessage.builder(name).userId(user).properties(properties));
    }

    public void identify(String user, Map<String, Object> properties) {
        analytics.enqueue(IdentifyMessage.builder().userId(user).traits(properties));
    }

    public void group(String user, String group, Map<String, Object> properties) {
        analytics.enqueue(GroupMessage.builder(group).userId(user).traits(properties));
    }

    public void end() throws Exception {
        analytics.flush();
        Thread.sleep(4000); /* flush() does not wait, and shutdown() gives up what is tried again */
        analytics.shutdown();
    }

    public static void main(String[] args) throws Exception {
        Driver.run(new OfRudder(args[1], args[2]));
    }
}
