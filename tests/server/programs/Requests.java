import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.List;

/** Sends the example request of known and of unknown length, and asks for HTTP/2, as by default. */
public class Requests {
    public static void main(String[] arguments) throws Exception {
        byte[] body = arguments[1].getBytes();
        HttpClient client = HttpClient.newHttpClient();
        List<HttpRequest.BodyPublisher> publishers = List.of(
            HttpRequest.BodyPublishers.ofByteArray(body),
            HttpRequest.BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body)),
            HttpRequest.BodyPublishers.ofByteArray(body));
        for (HttpRequest.BodyPublisher publisher : publishers) {
            HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0]))
                .header("Content-Type", "application/json")
                .POST(publisher)
                .build();
            HttpResponse<String> response = client.send(request, HttpResponse.BodyHandlers.ofString());
            System.out.print(response.statusCode() + " " + response.body());
        }
    }
}
