//! The rules that come with the program: files of `policies/rules`, written by us.

/// Name of their feed in modes, records and metrics.
pub const BUILT_IN_FEED: &str = "mailweir";

macro_rules! built_in {
    ($($name:literal,)*) => {
        /// Names and texts of their files.
        pub const BUILT_IN_RULES: &[(&str, &str)] =
            &[$((concat!($name, ".yml"), include_str!(concat!("../../../policies/rules/", $name, ".yml"))),)*];
    };
}

built_in! {
    "attached_page_names_recipient",
    "attachment_that_starts_programs",
    "calendar_invitation_lure",
    "callback_brand_free_mailbox",
    "callback_pdf_free_mailbox",
    "device_code",
    "extortion_in_attachment",
    "filler_pushed_out_of_sight",
    "form_builder_asks_for_account",
    "fortune_in_other_languages",
    "insight_link_domains",
    "leave_mail_for_messenger",
    "link_fragment_recipient",
    "notice_of_document_elsewhere",
    "paste_into_run_box",
    "payroll_account_change",
    "pdf_link_to_throwaway_host",
    "picture_from_free_host_as_button",
    "protected_person_signs",
    "qr_code_instead_of_link",
    "quick_task_telephone",
    "quotes_without_thread",
    "redirect_to_throwaway_host",
    "reference_number_as_name",
    "reply_to_lookalike_of_sender",
    "tenant_name_as_sender",
    "thread_continued_by_lookalike",
    "trusted_service_carries_bait",
    "wallet_bait",
}
