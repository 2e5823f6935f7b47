// A plug-in of Mosquitto 2: asks EVC whether a client may log in. What a client may then publish and read is Mosquitto's own
// matter, by the patterns of its ACL file. Options: plugin_opt_url, plugin_opt_root, plugin_opt_secret_file.
#include <curl/curl.h>
#include <mosquitto.h>
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { api_version = 5, largest_password = 8192, largest_name = 256, patience_ms = 3000 };

typedef struct {
  mosquitto_plugin_id_t *id;
  CURL *curl;
  struct curl_slist *headers;
  char *url;
} state;

// What goes into JSON as it is: ids in hex, tokens in base64url. Nobody who logs in needs another character.
static bool plain(const char *text, size_t most) {
  size_t length = strlen(text);
  if (length == 0 || length > most) return false;
  return strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=") == length;
}

static size_t ignore(char *data, size_t size, size_t count, void *context) {
  (void)data;
  (void)context;
  return size * count;
}

// 204 lets it in; anything else, an EVC out of reach among it, does not.
static int login(int event, void *event_data, void *context) {
  (void)event;
  struct mosquitto_evt_basic_auth *asked = event_data;
  state *s = context;
  if (asked->username == NULL || asked->password == NULL || !plain(asked->username, largest_name) ||
      !plain(asked->password, largest_password))
    return MOSQ_ERR_AUTH;
  char *body = malloc(largest_name + largest_password + 64);
  if (body == NULL) return MOSQ_ERR_AUTH;
  sprintf(body, "{\"username\":\"%s\",\"password\":\"%s\"}", asked->username, asked->password);
  curl_easy_setopt(s->curl, CURLOPT_POSTFIELDS, body);
  CURLcode sent = curl_easy_perform(s->curl);
  memset(body, 0, strlen(body));
  free(body);
  long status = 0;
  curl_easy_getinfo(s->curl, CURLINFO_RESPONSE_CODE, &status);
  if (sent != CURLE_OK) mosquitto_log_printf(MOSQ_LOG_ERR, "EVC cannot be asked: %s", curl_easy_strerror(sent));
  return sent == CURLE_OK && status == 204 ? MOSQ_ERR_SUCCESS : MOSQ_ERR_AUTH;
}

static char *secret_header(const char *path) {
  char secret[256] = {0};
  FILE *file = path != NULL ? fopen(path, "r") : NULL;
  if (file == NULL) return NULL;
  bool read = fgets(secret, sizeof secret, file) != NULL;
  fclose(file);
  secret[strcspn(secret, "\r\n")] = 0;
  if (!read || !plain(secret, sizeof secret - 1)) return NULL;
  char *header = malloc(sizeof secret + 32);
  if (header != NULL) sprintf(header, "Authorization: Bearer %s", secret);
  return header;
}

int mosquitto_plugin_version(int count, const int *versions) {
  for (int i = 0; i < count; i++)
    if (versions[i] == api_version) return api_version;
  return -1;
}

int mosquitto_plugin_cleanup(void *context, struct mosquitto_opt *options, int count) {
  (void)options;
  (void)count;
  state *s = context;
  if (s == NULL) return MOSQ_ERR_SUCCESS;
  if (s->curl != NULL) curl_easy_cleanup(s->curl);
  curl_slist_free_all(s->headers);
  free(s->url);
  free(s);
  return MOSQ_ERR_SUCCESS;
}

int mosquitto_plugin_init(mosquitto_plugin_id_t *id, void **context, struct mosquitto_opt *options, int count) {
  const char *url = NULL, *root = NULL, *secret = NULL;
  for (int i = 0; i < count; i++) {
    if (strcmp(options[i].key, "url") == 0) url = options[i].value;
    else if (strcmp(options[i].key, "root") == 0) root = options[i].value;
    else if (strcmp(options[i].key, "secret_file") == 0) secret = options[i].value;
  }
  char *header = secret_header(secret);
  state *s = calloc(1, sizeof *s);
  if (url == NULL || root == NULL || header == NULL || s == NULL) {
    mosquitto_log_printf(MOSQ_LOG_ERR, "evc-login wants plugin_opt_url, plugin_opt_root and a readable plugin_opt_secret_file");
    free(header);
    free(s);
    return MOSQ_ERR_INVAL;
  }
  *context = s;
  s->id = id;
  s->url = strdup(url);
  s->curl = curl_easy_init();
  s->headers = curl_slist_append(curl_slist_append(NULL, header), "Content-Type: application/json");
  free(header);
  if (s->url == NULL || s->curl == NULL || s->headers == NULL) return MOSQ_ERR_NOMEM;
  curl_easy_setopt(s->curl, CURLOPT_URL, s->url);
  curl_easy_setopt(s->curl, CURLOPT_CAINFO, root);
  curl_easy_setopt(s->curl, CURLOPT_PROTOCOLS_STR, "https");
  curl_easy_setopt(s->curl, CURLOPT_HTTPHEADER, s->headers);
  curl_easy_setopt(s->curl, CURLOPT_TIMEOUT_MS, (long)patience_ms);
  curl_easy_setopt(s->curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(s->curl, CURLOPT_WRITEFUNCTION, ignore);
  return mosquitto_callback_register(id, MOSQ_EVT_BASIC_AUTH, login, NULL, s);
}
