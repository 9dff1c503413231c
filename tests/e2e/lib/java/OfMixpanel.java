import com.mixpanel.mixpanelapi.ClientDelivery;
import com.mixpanel.mixpanelapi.MessageBuilder;
import com.mixpanel.mixpanelapi.MixpanelAPI;
import java.util.Map;
import org.json.JSONObject;

public class OfMixpanel implements Driver.Sdk {
    private final MixpanelAPI api;
    private final MessageBuilder builder;

    OfMixpanel(String url, String token) {
        api = new MixpanelAPI(url + "/track", url + "/engage", url + "/groups");
        builder = new MessageBuilder(token);
    }

    private void send(JSONObject message) throws Exception {
        ClientDelivery delivery = new ClientDelivery();
        delivery.addMessage(message);
        api.deliver(delivery);
    }

    public void track(String user, String name, Map<String, Object> properties) throws Exception {
        send(builder.event(user, name, new JSONObject(properties)));
    }

    public void identify(String user, Map<String, Object> properties) throws Exception {
        send(builder.set(user, new JSONObject(properties)));
    }

    public void group(String user, String group, Map<String, Object> properties) throws Exception {
        send(builder.groupSet("company", group, new JSONObject(properties)));
    }

    public void end() {
    }

    public static void main(String[] args) throws Exception {
        Driver.run(new OfMixpanel(args[1], args[2]));
    }
}
