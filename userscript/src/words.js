/**
 * Everything that a person reads, in every language we speak. Another language is one more table below.
 *
 * In a table, `<situation>` and `<situation>_advice` are the headline and what to do about it
 * (`situation.js`). `{name}` is a place for a value: text as it is, a number or a Date as the language
 * writes them.
 */

const { freeze, hasOwn } = Object;
const { DateTimeFormat, NumberFormat, Locale } = Intl;
const NativeDate = Date;

const en = freeze({
  language: "en",
  title: "LMArena Bridge",
  name: "Bridge",

  unconfigured: "Set up",
  unconfigured_advice: "Enter your hub's address and worker token.",
  unauthorized: "Token not accepted",
  unauthorized_advice: "The hub does not accept this worker token. Get a new one, then enter it here.",
  replaced: "Replaced",
  replaced_advice: "Another tab has taken this one's place at the hub. Questions go there now.",
  removed: "Removed",
  removed_advice: "The hub's operator has removed this tab. If that was a mistake, connect again.",
  outdated: "Update needed",
  outdated_advice:
    "The hub and this script do not understand each other. Update it in your userscript manager.",
  ended: "Disconnected",
  ended_advice: "The hub has ended the connection.",
  challenge: "Security check",
  challenge_advice:
    "The site asks for a security check. Do it in this page; then press Done. " +
    "Each try by a script would make it longer, so I wait.",
  login_required: "Sign-in needed",
  login_required_advice: "The site asks you to sign in. Do it in this page; then press Done.",
  consent_required: "Consent needed",
  consent_required_advice:
    "The site asks for your consent. Read and answer it in this page; then press Done.",
  site_changed: "Site changed",
  site_changed_advice:
    "The site is not what this script knows. You cannot mend it here: tell your hub's operator, " +
    "and update the script when a new version is out.",
  attention: "Look at the page",
  attention_advice: "The site wants something from you. See to it in this page; then press Done.",
  waiting: "Your turn",
  waiting_advice: "A question for {model} is in the box: read it and press the site's send button.",
  opening: "Opening a chat",
  opening_advice: "A question for {model} has come.",
  sent: "Question sent",
  sent_advice: "{model} has the question.",
  answering: "Answering",
  answering_advice: "{model} answers; the page shows it as always.",
  paused: "Paused",
  paused_advice: "This tab takes no questions until you resume.",
  off: "Not connected",
  off_advice: "This tab takes no questions.",
  connecting: "Connecting",
  connecting_advice: "Questions come once the hub has answered.",
  unreachable: "No connection",
  unreachable_advice: "The hub does not answer. I try again by myself.",
  loading: "Page is loading",
  loading_advice: "Questions come once the page is there.",
  late: "Reload the page",
  late_advice: "The script started after the page, and may have missed something. Reload the page.",
  exhausted: "Done for today",
  exhausted_advice: "This tab has sent as many questions as a day allows.",
  cooling: "Short break",
  cooling_advice: "A pause between questions, so as not to crowd the site.",
  ready: "Ready",
  ready_advice: "Waiting for a question.",
  spoken: "{headline}. {advice}",

  ask_address: "The address of your hub, such as https://hub.example.org",
  ask_token: "A worker token of that hub",
  wrong_address: "That is no address of a hub: it begins with https:// or http:// and holds no secrets.",
  wrong_token: "That is no worker token: it is one word of letters, digits and signs.",

  connect: "Enter address and token",
  again: "Connect again",
  done: "Done",
  "show-job": "Go to the send button",
  update: "Update",

  hub: "Hub",
  link_off: "not connected",
  link_connecting: "connecting",
  link_unreachable: "next try at {time}",
  link_socket: "connected",
  link_poll: "connected by polling",
  link_ended: "connection ended",
  today: "Today",
  today_of: "{today} of {daily}",
  next: "Next question",
  next_at: "at {time}",

  mode: "Who presses send?",
  assist: "I do",
  automatic: "The script",
  assist_advice: "You read each question, then press the site's send button.",
  automatic_advice: "The script presses the site's send button for you.",
  pause: "Pause",
  resume: "Resume",

  newer_advice: "Version {newer} is out: update in your userscript manager.",
  faster_advice: "Your hub is on this computer. For a faster link the browser will ask for your permission.",
  faster: "Use the faster link",

  terms: "You answer for this tab under the site's terms.",
  version: "Version {version}",
  settings: "Change hub",
  corner: "Move to another corner",
});

const zh = freeze({
  language: "zh-Hans",
  title: "LMArena Bridge",
  name: "Bridge",

  unconfigured: "待设置",
  unconfigured_advice: "请填写中枢地址和工作令牌。",
  unauthorized: "令牌无效",
  unauthorized_advice: "中枢不再接受这个工作令牌。请获取新令牌，然后在这里填写。",
  replaced: "已被取代",
  replaced_advice: "另一个标签页已取代本页与中枢的连接，问题现在由它回答。",
  removed: "已被移除",
  removed_advice: "中枢管理员移除了本标签页。如果是误操作，请重新连接。",
  outdated: "需要更新",
  outdated_advice: "中枢与本脚本的版本互不兼容。请在用户脚本管理器中更新脚本。",
  ended: "连接已断开",
  ended_advice: "中枢结束了连接。",
  challenge: "安全验证",
  challenge_advice:
    "网站要求安全验证。请在本页完成，然后按“完成”。脚本每尝试一次都会延长验证，所以我会等你。",
  login_required: "需要登录",
  login_required_advice: "网站要求登录。请在本页登录，然后按“完成”。",
  consent_required: "需要你的同意",
  consent_required_advice: "网站请求你的同意。请在本页阅读并作答，然后按“完成”。",
  site_changed: "网站已改版",
  site_changed_advice: "网站与脚本所知的不同。你无法在这里解决：请告知中枢管理员，并在新版本发布后更新脚本。",
  attention: "请查看页面",
  attention_advice: "网站需要你处理一件事。请在本页处理，然后按“完成”。",
  waiting: "轮到你了",
  waiting_advice: "发给 {model} 的问题已填入输入框：请阅读，然后按网站的发送按钮。",
  opening: "正在打开对话",
  opening_advice: "收到一个发给 {model} 的问题。",
  sent: "问题已发送",
  sent_advice: "{model} 已收到问题。",
  answering: "正在回答",
  answering_advice: "{model} 正在回答，页面照常显示。",
  paused: "已暂停",
  paused_advice: "在你恢复之前，本标签页不接收问题。",
  off: "未连接",
  off_advice: "本标签页不接收问题。",
  connecting: "正在连接",
  connecting_advice: "中枢应答后即可接收问题。",
  unreachable: "无法连接",
  unreachable_advice: "中枢没有应答。我会自动重试。",
  loading: "页面加载中",
  loading_advice: "页面就绪后即可接收问题。",
  late: "请刷新页面",
  late_advice: "脚本在页面之后才启动，可能有所遗漏。请刷新页面。",
  exhausted: "今日已满",
  exhausted_advice: "本标签页今天发送的问题已达上限。",
  cooling: "稍作休息",
  cooling_advice: "两个问题之间稍作停顿，以免给网站造成拥挤。",
  ready: "就绪",
  ready_advice: "正在等待问题。",
  spoken: "{headline}。{advice}",

  ask_address: "中枢的地址，例如 https://hub.example.org",
  ask_token: "该中枢的工作令牌",
  wrong_address: "这不是中枢的地址：地址以 https:// 或 http:// 开头，且不含任何密钥。",
  wrong_token: "这不是工作令牌：令牌是由字母、数字和符号组成的一个词。",

  connect: "填写地址和令牌",
  again: "重新连接",
  done: "完成",
  "show-job": "转到发送按钮",
  update: "更新",

  hub: "中枢",
  link_off: "未连接",
  link_connecting: "正在连接",
  link_unreachable: "{time} 重试",
  link_socket: "已连接",
  link_poll: "已连接（轮询）",
  link_ended: "连接已结束",
  today: "今日",
  today_of: "{today} / {daily}",
  next: "下一个问题",
  next_at: "{time}",

  mode: "由谁按发送？",
  assist: "我来按",
  automatic: "脚本",
  assist_advice: "你阅读每个问题，然后按网站的发送按钮。",
  automatic_advice: "脚本会替你按网站的发送按钮。",
  pause: "暂停",
  resume: "恢复",

  newer_advice: "版本 {newer} 已发布：请在用户脚本管理器中更新。",
  faster_advice: "你的中枢就在这台电脑上。要使用更快的连接，浏览器会请求你的许可。",
  faster: "使用更快的连接",

  terms: "根据网站条款，你对本标签页负责。",
  version: "版本 {version}",
  settings: "更换中枢",
  corner: "移到另一个角落",
});

export const TABLES = freeze({ en, zh });

const PLACE = /\{(\w+)\}/g;

/** @param {string} language as browsers name it, such as "zh-CN" @returns {string} a name of TABLES */
function tableFor(language) {
  const [spoken] = language.toLowerCase().split(/[-_]/);
  return hasOwn(TABLES, spoken) ? spoken : "en";
}

/** The reader's own way to write numbers and times, if we speak their language; else our table's. */
function localeFor(language, table) {
  try {
    const locale = new Locale(language);
    return locale.language === table ? locale.baseName : table;
  } catch {
    return table;
  }
}

/** Writes a Date as a clock time, with its weekday where that is not today's. */
function clock(locale) {
  const time = { hour: "numeric", minute: "2-digit", second: "2-digit" };
  const soon = new DateTimeFormat(locale, time);
  const later = new DateTimeFormat(locale, { ...time, weekday: "short" });
  return (date) => {
    const today = date.toDateString() === new NativeDate().toDateString();
    return (today ? soon : later).format(date);
  };
}

/**
 * @callback Say
 * @param {string} key a key of the tables; any other throws a RangeError
 * @param {{[name: string]: string | number | Date}} [values] one for each place in the text
 * @returns {string}
 */

/**
 * Speaks a language: Chinese for zh in any spelling, English for every other.
 * @param {string} language as `navigator.language` gives it
 * @returns {Say}
 */
export function words(language) {
  const name = tableFor(language);
  const locale = localeFor(language, name);
  const number = new NumberFormat(locale);
  const time = clock(locale);
  const write = (value) => {
    if (typeof value === "number") return number.format(value);
    return value instanceof NativeDate ? time(value) : value;
  };
  return (key, values = {}) => {
    if (!hasOwn(TABLES[name], key)) throw new RangeError(`no words for ${key}`);
    return TABLES[name][key].replace(PLACE, (_, place) => write(values[place]));
  };
}
