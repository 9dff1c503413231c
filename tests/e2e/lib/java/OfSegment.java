import com.segment.analytics.Analytics;
import com.segment.analytics.messages.GroupMessage;
import com.segment.analytics.messages.IdentifyMessage;
import com.segment.analytics.messages.TrackMessage;
import java.util.Map;

public class OfSegment implements Driver.Sdk {
    private final Analytics analytics;

    OfSegment(String url, String token) {
        analytics = Analytics.builder(token).setUploadURL(url + "/v1/batch").flushQueueSize(4).build();
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
        Driver.run(new OfSegment(args[1], args[2]));
    }
}
